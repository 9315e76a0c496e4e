"""Works on coalitions: leaving out, Shapley values, fits and masks."""

from .work import Work

WORKS = {
    "agarwal2021": Work(
        "Agarwal, Jabbari, Agarwal, Upadhyay, Wu and Lakkaraju",
        "Towards the unification and robustness of perturbation and gradient based explanations",
        "ICML", 2021, ("arXiv:2102.10618",),
    ),
    "bordt2023": Work(
        "Bordt and von Luxburg",
        "From Shapley values to generalized additive models and back",
        "AISTATS", 2023, ("arXiv:2209.04012",),
    ),
    "castro2009": Work(
        "Castro, Gómez and Tejada",
        "Polynomial calculation of the Shapley value based on sampling",
        "Computers & Operations Research 36(5), 1726–1730", 2009,
        ("doi:10.1016/j.cor.2008.04.004",),
    ),
    "chaloner1995": Work(
        "Chaloner and Verdinelli",
        "Bayesian experimental design: A review",
        "Statistical Science 10(3), 273–304", 1995, ("doi:10.1214/ss/1177009939",),
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
    "fel2021": Work(
        "Fel, Cadène, Chalvidal, Cord, Vigouroux and Serre",
        "Look at the variance! Efficient black-box explanations with Sobol-based sensitivity "
        "analysis",
        "NeurIPS", 2021, ("arXiv:2111.04138",),
    ),
    "fumagalli2023": Work(
        "Fumagalli, Muschalik, Kolpaczki, Hüllermeier and Hammer",
        "SHAP-IQ: Unified approximation of any-order Shapley interactions",
        "NeurIPS", 2023, ("arXiv:2303.01179",),
    ),
    "glen2012": Work(
        "Glen and Isaacs",
        "Estimating Sobol sensitivity indices using correlations",
        "Environmental Modelling & Software 37, 157–166", 2012,
        ("doi:10.1016/j.envsoft.2012.03.014",),
    ),
    "goldwasser2023": Work(
        "Goldwasser and Hooker",
        "Stabilizing estimates of Shapley values with control variates",
        "arXiv preprint", 2023, ("arXiv:2310.07672",),
    ),
    "grabisch1999": Work(
        "Grabisch and Roubens",
        "An axiomatic approach to the concept of interaction among players in cooperative games",
        "International Journal of Game Theory 28, 547–565", 1999, ("doi:10.1007/s001820050125",),
    ),
    "han2022": Work(
        "Han, Srinivas and Lakkaraju",
        "Which explanation should I choose? A function approximation perspective to characterizing "
        "post hoc explanations",
        "NeurIPS", 2022, ("arXiv:2206.01254",),
    ),
    "harris2022": Work(
        "Harris, Pymar and Rowat",
        "Joint Shapley values: a measure of joint feature importance",
        "ICLR", 2022, ("arXiv:2107.11357",),
    ),
    "homma1996": Work(
        "Homma and Saltelli",
        "Importance measures in global sensitivity analysis of nonlinear models",
        "Reliability Engineering & System Safety 52(1), 1–17", 1996,
        ("doi:10.1016/0951-8320(96)00002-6",),
    ),
    "janon2014": Work(
        "Janon, Klein, Lagnoux, Nodet and Prieur",
        "Asymptotic normality and efficiency of two Sobol index estimators",
        "ESAIM: Probability and Statistics 18, 342–364", 2014, ("doi:10.1051/ps/2013040",),
    ),
    "jansen1999": Work(
        "Jansen",
        "Analysis of variance designs for model output",
        "Computer Physics Communications 117(1–2), 35–43", 1999,
        ("doi:10.1016/S0010-4655(98)00154-4",),
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
    "novello2022": Work(
        "Novello, Fel and Vigouroux",
        "Making sense of dependence: Efficient black-box explanations using dependence measure",
        "NeurIPS", 2022, ("arXiv:2206.06219",),
    ),
    "owen1977": Work(
        "Owen",
        "Values of games with a priori unions",
        "Mathematical Economics and Game Theory, Springer, 76–88", 1977,
        ("doi:10.1007/978-3-642-45494-3_7",),
    ),
    "musco2025": Work(
        "Musco and Witter",
        "Provably accurate Shapley value estimation via leverage score sampling",
        "ICLR", 2025, ("arXiv:2410.01917",),
    ),
    "petsiuk2018": Work(
        "Petsiuk, Das and Saenko",
        "RISE: Randomized input sampling for explanation of black-box models",
        "BMVC", 2018, ("arXiv:1806.07421",),
    ),
    "petsiuk2021": Work(
        "Petsiuk, Jain, Manjunatha, Morariu, Mehra, Ordonez and Saenko",
        "Black-box explanation of object detectors via saliency maps",
        "CVPR", 2021, ("arXiv:2006.03204",),
    ),
    "rasmussen2006": Work(
        "Rasmussen and Williams",
        "Gaussian processes for machine learning",
        "MIT Press", 2006, ("doi:10.7551/mitpress/3206.001.0001",),
    ),
    "ribeiro2016": Work(
        "Ribeiro, Singh and Guestrin",
        "“Why should I trust you?”: Explaining the predictions of any classifier",
        "KDD", 2016, ("doi:10.1145/2939672.2939778", "arXiv:1602.04938"),
    ),
    "saltelli2010": Work(
        "Saltelli, Annoni, Azzini, Campolongo, Ratto and Tarantola",
        "Variance based sensitivity analysis of model output. Design and estimator for the total "
        "sensitivity index",
        "Computer Physics Communications 181(2), 259–270", 2010,
        ("doi:10.1016/j.cpc.2009.09.018",),
    ),
    "shapley1953": Work(
        "Shapley",
        "A value for n-person games",
        "Contributions to the Theory of Games II, Princeton University Press, 307–317", 1953,
        ("doi:10.1515/9781400881970-018",),
    ),
    "sundararajan2020": Work(
        "Sundararajan, Dhamdhere and Agarwal",
        "The Shapley Taylor interaction index",
        "ICML", 2020, ("arXiv:1902.05622",),
    ),
    "tsai2023": Work(
        "Tsai, Yeh and Ravikumar",
        "Faith-Shap: The faithful Shapley interaction index",
        "Journal of Machine Learning Research 24(94), 1–42", 2023, ("arXiv:2203.00870",),
    ),
    "tsang2020": Work(
        "Tsang, Rambhatla and Liu",
        "How does this interaction affect me? Interpretable attribution for feature interactions",
        "NeurIPS", 2020, ("arXiv:2006.10965",),
    ),
    "wang2023": Work(
        "Wang and Jia",
        "Data Banzhaf: A robust data valuation framework for machine learning",
        "AISTATS", 2023, ("arXiv:2205.15466",),
    ),
    "witter2025": Work(
        "Witter, Liu and Musco",
        "Regression-adjusted Monte Carlo estimators for Shapley values and probabilistic values",
        "arXiv preprint", 2025, ("arXiv:2506.11849",),
    ),
    "zhang2023": Work(
        "Zhang, Sun, Liu, Xiong, Pei and Ren",
        "Efficient sampling approaches to Shapley value approximation",
        "Proceedings of the ACM on Management of Data 1(1), 1–24", 2023,
        ("doi:10.1145/3588728",),
    ),
    "zhou2019": Work(
        "Zhou, Hu, Zhou and Lange",
        "MM algorithms for variance components models",
        "Journal of Computational and Graphical Statistics 28(2), 350–361", 2019,
        ("arXiv:1509.07426",),
    ),
}  # fmt: skip
