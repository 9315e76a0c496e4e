"""Works on coalitions: leaving out, Shapley values, fits and masks."""

from .work import Work

WORKS = {
    "castro2009": Work(
        "Castro, Gómez and Tejada",
        "Polynomial calculation of the Shapley value based on sampling",
        "Computers & Operations Research 36(5), 1726–1730", 2009,
        ("doi:10.1016/j.cor.2008.04.004",),
    ),
    "cohenwang2024": Work(
        "Cohen-Wang, Shah, Georgiev and Madry",
        "ContextCite: Attributing model generation to context",
        "NeurIPS", 2024, ("arXiv:2409.00729",),
    ),
    "covert2021": Work(
        "Covert and Lee",
        "Improving KernelSHAP: Practical Shapley value estimation using linear regression",
        "AISTATS", 2021, ("arXiv:2012.01536",),
    ),
    "lundberg2017": Work(
        "Lundberg and Lee",
        "A unified approach to interpreting model predictions",
        "NeurIPS", 2017, ("arXiv:1705.07874",),
    ),
    "mitchell2022": Work(
        "Mitchell, Cooper, Frank and Holmes",
        "Sampling permutations for Shapley value estimation",
        "Journal of Machine Learning Research 23(43), 1–46", 2022, ("arXiv:2104.12199",),
    ),
    "petsiuk2018": Work(
        "Petsiuk, Das and Saenko",
        "RISE: Randomized input sampling for explanation of black-box models",
        "BMVC", 2018, ("arXiv:1806.07421",),
    ),
    "ribeiro2016": Work(
        "Ribeiro, Singh and Guestrin",
        "“Why should I trust you?”: Explaining the predictions of any classifier",
        "KDD", 2016, ("doi:10.1145/2939672.2939778", "arXiv:1602.04938"),
    ),
    "shapley1953": Work(
        "Shapley",
        "A value for n-person games",
        "Contributions to the Theory of Games II, Princeton University Press, 307–317", 1953,
        ("doi:10.1515/9781400881970-018",),
    ),
}  # fmt: skip
