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
    "dubey1979": Work(
        "Dubey and Shapley",
        "Mathematical properties of the Banzhaf power index",
        "Mathematics of Operations Research 4(2), 99–131", 1979, ("doi:10.1287/moor.4.2.99",),
    ),
    "lundberg2017": Work(
        "Lundberg and Lee",
        "A unified approach to interpreting model predictions",
        "NeurIPS", 2017, ("arXiv:1705.07874",),
    ),
    "meng2022": Work(
        "Meng, Bau, Andonian and Belinkov",
        "Locating and editing factual associations in GPT",
        "NeurIPS", 2022, ("arXiv:2202.05262",),
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
    "wang2023": Work(
        "Wang and Jia",
        "Data Banzhaf: A robust data valuation framework for machine learning",
        "AISTATS", 2023, ("arXiv:2205.15466",),
    ),
}  # fmt: skip
