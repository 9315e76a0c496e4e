"""Works on who the players are."""

from .work import Work

WORKS = {
    "bandyopadhyay2024": Work(
        "Bandyopadhyay, Chowdhury, Bhunia, Sain, Xiang and Song",
        "What sketch explainability really means for downstream tasks",
        "CVPR", 2024, ("arXiv:2403.09480",),
    ),
    "chrabaszcz2024": Work(
        "Chrabaszcz, Baniecki, Komorowski, Płotka and Biecek",
        "Aggregated attributions for explanatory analysis of 3D segmentation models",
        "", 2024, ("arXiv:2407.16653",),
    ),
    "jain2023": Work(
        "Jain, Tamarapalli, Yerramilli and Bisk",
        "MAEA: Multimodal attribution for embodied AI",
        "", 2023, ("arXiv:2307.13850",),
    ),
    "kasmi2023": Work(
        "Kasmi, Dubus, Saint-Drenan and Blanc",
        "Assessment of the reliablity of a model's decision by generalizing attribution to the "
        "wavelet domain",
        "", 2023, ("arXiv:2305.14979",),
    ),
    "kasmi2025": Work(
        "Kasmi, Brunetto, Fel and Parekh",
        "One wave to explain them all: A unifying perspective on feature attribution",
        "ICML", 2025, ("arXiv:2410.01482",),
    ),
    "kechris2025": Work(
        "Kechris, Dan and Atienza",
        "Time series saliency maps: Explaining models across multiple domains",
        "", 2025, ("arXiv:2505.13100",),
    ),
}  # fmt: skip
