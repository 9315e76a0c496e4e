"""Works on training examples as players."""

from .work import Work

WORKS = {
    "agarwal2017": Work(
        "Agarwal, Bullins and Hazan",
        "Second-order stochastic optimization for machine learning in linear time",
        "Journal of Machine Learning Research 18", 2017, ("arXiv:1602.03943",),
    ),
    "bae2024": Work(
        "Bae, Lin, Lorraine and Grosse",
        "Training data attribution via approximate unrolled differentiation",
        "NeurIPS", 2024, ("arXiv:2405.12186",),
    ),
    "charpiat2019": Work(
        "Charpiat, Girard, Felardos and Tarabalka",
        "Input similarity from the neural network perspective",
        "NeurIPS", 2019, ("arXiv:2102.05262",),
    ),
    "engstrom2025": Work(
        "Engstrom, Ilyas, Chen, Feldmann, Moses and Madry",
        "Optimizing ML training with metagradient descent",
        "", 2025, ("arXiv:2503.13751",),
    ),
    "george2018": Work(
        "George, Laurent, Bouthillier, Ballas and Vincent",
        "Fast approximate natural gradient descent in a Kronecker-factored eigenbasis",
        "NeurIPS", 2018, ("arXiv:1806.03884",),
    ),
    "grosse2023": Work(
        "Grosse, Bae, Anil, Elhage, Tamkin, Tajdini and others",
        "Studying large language model generalization with influence functions",
        "", 2023, ("arXiv:2308.03296",),
    ),
    "hanawa2021": Work(
        "Hanawa, Yokoi, Hara and Inui",
        "Evaluation of similarity-based explanations",
        "ICLR", 2021, ("arXiv:2006.04528",),
    ),
    "hestenes1952": Work(
        "Hestenes and Stiefel",
        "Methods of conjugate gradients for solving linear systems",
        "Journal of Research of the National Bureau of Standards 49, 409-436",
        1952, ("doi:10.6028/jres.049.044",),
    ),
    "ilyas2022": Work(
        "Ilyas, Park, Engstrom, Leclerc and Madry",
        "Datamodels: Predicting predictions from training data",
        "ICML", 2022, ("arXiv:2202.00622",),
    ),
    "ilyas2025": Work(
        "Ilyas and Engstrom",
        "MAGIC: Near-optimal data attribution for deep learning",
        "", 2025, ("arXiv:2504.16430",),
    ),
    "jia2019": Work(
        "Jia, Dao, Wang, Hubis, Gürel, Li, Zhang, Spanos and Song",
        "Efficient task-specific data valuation for nearest neighbor algorithms",
        "PVLDB 12(11), 1610-1623", 2019, ("doi:10.14778/3342263.3342637", "arXiv:1908.08619"),
    ),
    "koh2017": Work(
        "Koh and Liang",
        "Understanding black-box predictions via influence functions",
        "ICML", 2017, ("arXiv:1703.04730",),
    ),
    "martens2015": Work(
        "Martens and Grosse",
        "Optimizing neural networks with Kronecker-factored approximate curvature",
        "ICML", 2015, ("arXiv:1503.05671",),
    ),
    "park2023": Work(
        "Park, Georgiev, Ilyas, Leclerc and Madry",
        "TRAK: Attributing model behavior at scale",
        "ICML", 2023, ("arXiv:2303.14186",),
    ),
    "pruthi2020": Work(
        "Pruthi, Liu, Kale and Sundararajan",
        "Estimating training data influence by tracing gradient descent",
        "NeurIPS", 2020, ("arXiv:2002.08484",),
    ),
    "schioppa2022": Work(
        "Schioppa, Zablotskaia, Vilar and Sokolov",
        "Scaling up influence functions",
        "AAAI", 2022, ("arXiv:2112.03052",),
    ),
}  # fmt: skip
