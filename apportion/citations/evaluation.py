"""Works on judging credit."""

from .work import Work

WORKS = {
    "adebayo2018": Work(
        "Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim",
        "Sanity checks for saliency maps",
        "NeurIPS", 2018, ("arXiv:1810.03292",),
    ),
}  # fmt: skip
