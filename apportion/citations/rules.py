"""Works on bent backward passes."""

from .work import Work

WORKS = {
    "achtibat2024": Work(
        "Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin and Samek",
        "AttnLRP: Attention-aware layer-wise relevance propagation for transformers",
        "ICML", 2024, ("arXiv:2402.05602",),
    ),
    "ali2022": Work(
        "Ali, Schnake, Eberle, Montavon, Müller and Wolf",
        "XAI for transformers: Better explanations through conservative propagation",
        "ICML", 2022, ("arXiv:2202.07304",),
    ),
    "andéol2021": Work(
        "Andéol, Kawakami, Wada, Kanamori, Müller and Montavon",
        "Learning domain invariant representations by joint Wasserstein distance minimization",
        "", 2021, ("arXiv:2106.04923",),
    ),
    "arras2025": Work(
        "Arras, Puri, Kahardipraja, Lapuschkin and Samek",
        "A close look at decomposition-based XAI-methods for transformer language models",
        "", 2025, ("arXiv:2502.15886",),
    ),
    "bach2015": Work(
        "Bach, Binder, Montavon, Klauschen, Müller and Samek",
        "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance "
        "propagation",
        "PLOS ONE 10(7), e0130140", 2015, ("doi:10.1371/journal.pone.0130140",),
    ),
    "chattopadhay2018": Work(
        "Chattopadhay, Sarkar, Howlader and Balasubramanian",
        "Grad-CAM++: Generalized gradient-based visual explanations for deep convolutional "
        "networks",
        "WACV", 2018, ("doi:10.1109/WACV.2018.00097", "arXiv:1710.11063"),
    ),
    "desai2020": Work(
        "Desai and Ramaswamy",
        "Ablation-CAM: Visual explanations for deep convolutional network via gradient-free "
        "localization",
        "WACV", 2020, ("doi:10.1109/WACV45572.2020.9093360",),
    ),
    "draelos2020": Work(
        "Draelos and Carin",
        "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural "
        "networks",
        "", 2020, ("arXiv:2011.08891",),
    ),
    "jiang2021": Work(
        "Jiang, Zhang, Hou, Cheng and Wei",
        "LayerCAM: Exploring hierarchical class activation maps for localization",
        "IEEE Transactions on Image Processing 30, 5875–5888", 2021,
        ("doi:10.1109/TIP.2021.3089943",),
    ),
    "selvaraju2017": Work(
        "Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra",
        "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
        "ICCV", 2017, ("doi:10.1109/ICCV.2017.74", "arXiv:1610.02391"),
    ),
    "eberle2020": Work(
        "Eberle, Büttner, Kräutli, Müller, Valleriani and Montavon",
        "Building and interpreting deep similarity models",
        "IEEE TPAMI", 2020, ("doi:10.1109/TPAMI.2020.3020738", "arXiv:2003.05431"),
    ),
    "edin2025": Work(
        "Edin, Csordás, Ruotsalo, Wu, Maistro, Huang and Maaløe",
        "GIM: Improved interpretability for large language models",
        "", 2025, ("arXiv:2505.17630",),
    ),
    "kohlbrenner2020": Work(
        "Kohlbrenner, Bauer, Nakajima, Binder, Samek and Lapuschkin",
        "Towards best practice in explaining neural network decisions with LRP",
        "IJCNN", 2020, ("arXiv:1910.09840",),
    ),
    "lapuschkin2019": Work(
        "Lapuschkin, Wäldchen, Binder, Montavon, Samek and Müller",
        "Unmasking Clever Hans predictors and assessing what machines really learn",
        "Nature Communications 10, 1096", 2019, ("doi:10.1038/s41467-019-08987-4",),
    ),
    "lee2025": Work(
        "Lee, Smith-Halverson and Millán Arias",
        "Always keep your promises: A model-agnostic attribution algorithm for neural networks",
        "", 2025, ("arXiv:2512.07010",),
    ),
    "montavon2017": Work(
        "Montavon, Lapuschkin, Binder, Samek and Müller",
        "Explaining nonlinear classification decisions with deep Taylor decomposition",
        "Pattern Recognition 65", 2017, ("doi:10.1016/j.patcog.2016.11.008",),
    ),
    "montavon2019": Work(
        "Montavon, Binder, Lapuschkin, Samek and Müller",
        "Layer-wise relevance propagation: An overview",
        "Explainable AI, Springer", 2019, ("doi:10.1007/978-3-030-28954-6_10",),
    ),
    "springenberg2015": Work(
        "Springenberg, Dosovitskiy, Brox and Riedmiller",
        "Striving for simplicity: The all convolutional net",
        "ICLR workshop", 2015, ("arXiv:1412.6806",),
    ),
    "wang2020": Work(
        "Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu",
        "Score-CAM: Score-weighted visual explanations for convolutional neural networks",
        "CVPR workshop", 2020, ("arXiv:1910.01279",),
    ),
    "zeiler2014": Work(
        "Zeiler and Fergus",
        "Visualizing and understanding convolutional networks",
        "ECCV", 2014, ("doi:10.1007/978-3-319-10590-1_53", "arXiv:1311.2901"),
    ),
    "zhou2016": Work(
        "Zhou, Khosla, Lapedriza, Oliva and Torralba",
        "Learning deep features for discriminative localization",
        "CVPR", 2016, ("arXiv:1512.04150",),
    ),
}  # fmt: skip
