"""Works on derivatives and paths."""

from .work import Work

WORKS = {
    "adebayo2018b": Work(
        "Adebayo, Gilmer, Goodfellow and Kim",
        "Local explanation methods for deep neural networks lack sensitivity to parameter values",
        "ICLR workshop", 2018, ("arXiv:1810.03307",),
    ),
    "eberle2022": Work(
        "Eberle, Büttner, Kräutli, Müller, Valleriani and Montavon",
        "Building and interpreting deep similarity models",
        "IEEE Transactions on Pattern Analysis and Machine Intelligence 44(3), 1149–1161", 2022,
        ("doi:10.1109/TPAMI.2020.3020738", "arXiv:2003.05431"),
    ),
    "erion2021": Work(
        "Erion, Janizek, Sturmfels, Lundberg and Lee",
        "Improving performance of deep learning models with axiomatic attribution priors and "
        "expected gradients",
        "Nature Machine Intelligence 3, 620–631", 2021,
        ("doi:10.1038/s42256-021-00343-w", "arXiv:1906.10670"),
    ),
    "hooker2019": Work(
        "Hooker, Erhan, Kindermans and Kim",
        "A benchmark for interpretability methods in deep neural networks",
        "NeurIPS", 2019, ("arXiv:1806.10758",),
    ),
    "moeller2023": Work(
        "Moeller, Nikolaev and Padó",
        "An attribution method for Siamese encoders",
        "EMNLP", 2023, ("arXiv:2310.05703",),
    ),
    "moeller2024": Work(
        "Moeller, Tilli, Vu and Padó",
        "Explaining caption-image interactions in CLIP models with second-order attributions",
        "Transactions on Machine Learning Research", 2024, ("arXiv:2408.14153",),
    ),
    "shrikumar2017": Work(
        "Shrikumar, Greenside and Kundaje",
        "Learning important features through propagating activation differences",
        "ICML", 2017, ("arXiv:1704.02685",),
    ),
    "simonyan2014": Work(
        "Simonyan, Vedaldi and Zisserman",
        "Deep inside convolutional networks: Visualising image classification models and saliency "
        "maps",
        "ICLR workshop", 2014, ("arXiv:1312.6034",),
    ),
    "smilkov2017": Work(
        "Smilkov, Thorat, Kim, Viégas and Wattenberg",
        "SmoothGrad: removing noise by adding noise",
        "", 2017, ("arXiv:1706.03825",),
    ),
    "sundararajan2017": Work(
        "Sundararajan, Taly and Yan",
        "Axiomatic attribution for deep networks",
        "ICML", 2017, ("arXiv:1703.01365",),
    ),
    "zhang2024": Work(
        "Zhang, Zheng, Zhou and Lu",
        "Path choice matters for clear attribution in path methods",
        "ICLR", 2024, ("arXiv:2401.10442",),
    ),
}  # fmt: skip
