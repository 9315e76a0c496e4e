"""Works on what absence means, and on values."""

from .work import Work

WORKS = {
    "aas2021": Work(
        "Aas, Jullum and Løland",
        "Explaining individual predictions when features are dependent: More accurate "
        "approximations to Shapley values",
        "Artificial Intelligence 298, 103502", 2021,
        ("doi:10.1016/j.artint.2021.103502", "arXiv:1903.10464"),
    ),
    "chen2020": Work(
        "Chen, Janizek, Lundberg and Lee",
        "True to the model or true to the data?",
        "", 2020, ("arXiv:2006.16234",),
    ),
    "chen2025": Work(
        "Chen, Liang, Li, Liu, Li, Huang, Zhang and Cao",
        "Interpreting object-level foundation models via visual precision search",
        "CVPR", 2025, ("arXiv:2411.16198",),
    ),
    "fong2019": Work(
        "Fong, Patrick and Vedaldi",
        "Understanding deep networks via extremal perturbations and smooth masks",
        "ICCV", 2019, ("arXiv:1910.08485",),
    ),
    "jethani2023": Work(
        "Jethani, Saporta and Ranganath",
        "Don't be fooled: label leakage in explanation methods and the importance of their "
        "quantitative evaluation",
        "AISTATS", 2023, ("arXiv:2302.12893",),
    ),
    "kim2020": Work(
        "Kim, Yi, Kim and Yoon",
        "Interpretation of NLP models through input marginalization",
        "EMNLP", 2020, ("doi:10.18653/v1/2020.emnlp-main.255", "arXiv:2010.13984"),
    ),
    "plummer2020": Work(
        "Plummer, Vasileva, Petsiuk, Saenko and Forsyth",
        "Why do these match? Explaining the behavior of image similarity models",
        "ECCV", 2020, ("doi:10.1007/978-3-030-58621-8_38", "arXiv:1905.10797"),
    ),
    "xu2020": Work(
        "Xu, Venugopalan and Sundararajan",
        "Attribution in scale and space",
        "CVPR", 2020, ("arXiv:2004.03383",),
    ),
    "zhao2024": Work(
        "Zhao and Shan",
        "ReAGent: A model-agnostic feature attribution method for generative language models",
        "", 2024, ("arXiv:2402.00794",),
    ),
}  # fmt: skip
