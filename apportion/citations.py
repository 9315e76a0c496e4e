"""The literature behind the methods: one reference per key that a `cites` names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .types import BadRequest


@dataclass(frozen=True)
class Reference:
    """One work, with its identifiers as text."""

    authors: str
    title: str
    venue: str  # journal or conference, volume, pages
    year: int
    ids: tuple[str, ...] = ()  # "doi:..." and "arXiv:..."

    def __str__(self) -> str:
        where = f"{self.venue}, {self.year}" if self.venue else str(self.year)
        return " ".join([f"{self.authors}. {self.title}. {where}.", *self.ids])


REFERENCES = {
    "achtibat2024": Reference(
        "Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin and Samek",
        "AttnLRP: Attention-aware layer-wise relevance propagation for transformers",
        "ICML", 2024, ("arXiv:2402.05602",),
    ),
    "adebayo2018": Reference(
        "Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim",
        "Sanity checks for saliency maps",
        "NeurIPS", 2018, ("arXiv:1810.03292",),
    ),
    "agarwal2017": Reference(
        "Agarwal, Bullins and Hazan",
        "Second-order stochastic optimization for machine learning in linear time",
        "Journal of Machine Learning Research 18", 2017, ("arXiv:1602.03943",),
    ),
    "ali2022": Reference(
        "Ali, Schnake, Eberle, Montavon, Müller and Wolf",
        "XAI for transformers: Better explanations through conservative propagation",
        "ICML", 2022, ("arXiv:2202.07304",),
    ),
    "arras2025": Reference(
        "Arras, Puri, Kahardipraja, Lapuschkin and Samek",
        "A close look at decomposition-based XAI-methods for transformer language models",
        "", 2025, ("arXiv:2502.15886",),
    ),
    "bach2015": Reference(
        "Bach, Binder, Montavon, Klauschen, Müller and Samek",
        "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance "
        "propagation",
        "PLOS ONE 10(7), e0130140", 2015, ("doi:10.1371/journal.pone.0130140",),
    ),
    "bae2024": Reference(
        "Bae, Lin, Lorraine and Grosse",
        "Training data attribution via approximate unrolled differentiation",
        "NeurIPS", 2024, ("arXiv:2405.12186",),
    ),
    "castro2009": Reference(
        "Castro, Gómez and Tejada",
        "Polynomial calculation of the Shapley value based on sampling",
        "Computers & Operations Research 36(5), 1726–1730", 2009,
        ("doi:10.1016/j.cor.2008.04.004",),
    ),
    "charpiat2019": Reference(
        "Charpiat, Girard, Felardos and Tarabalka",
        "Input similarity from the neural network perspective",
        "NeurIPS", 2019, ("arXiv:2102.05262",),
    ),
    "cohenwang2024": Reference(
        "Cohen-Wang, Shah, Georgiev and Madry",
        "ContextCite: Attributing model generation to context",
        "NeurIPS", 2024, ("arXiv:2409.00729",),
    ),
    "covert2021": Reference(
        "Covert and Lee",
        "Improving KernelSHAP: Practical Shapley value estimation using linear regression",
        "AISTATS", 2021, ("arXiv:2012.01536",),
    ),
    "engstrom2025": Reference(
        "Engstrom, Ilyas, Chen, Feldmann, Moses and Madry",
        "Optimizing ML training with metagradient descent",
        "", 2025, ("arXiv:2503.13751",),
    ),
    "erion2021": Reference(
        "Erion, Janizek, Sturmfels, Lundberg and Lee",
        "Improving performance of deep learning models with axiomatic attribution priors and "
        "expected gradients",
        "Nature Machine Intelligence 3, 620–631", 2021,
        ("doi:10.1038/s42256-021-00343-w", "arXiv:1906.10670"),
    ),
    "george2018": Reference(
        "George, Laurent, Bouthillier, Ballas and Vincent",
        "Fast approximate natural gradient descent in a Kronecker-factored eigenbasis",
        "NeurIPS", 2018, ("arXiv:1806.03884",),
    ),
    "grosse2023": Reference(
        "Grosse, Bae, Anil, Elhage, Tamkin, Tajdini and others",
        "Studying large language model generalization with influence functions",
        "", 2023, ("arXiv:2308.03296",),
    ),
    "hanawa2021": Reference(
        "Hanawa, Yokoi, Hara and Inui",
        "Evaluation of similarity-based explanations",
        "ICLR", 2021, ("arXiv:2006.04528",),
    ),
    "hestenes1952": Reference(
        "Hestenes and Stiefel",
        "Methods of conjugate gradients for solving linear systems",
        "Journal of Research of the National Bureau of Standards 49, 409-436",
        1952, ("doi:10.6028/jres.049.044",),
    ),
    "ilyas2022": Reference(
        "Ilyas, Park, Engstrom, Leclerc and Madry",
        "Datamodels: Predicting predictions from training data",
        "ICML", 2022, ("arXiv:2202.00622",),
    ),
    "ilyas2025": Reference(
        "Ilyas and Engstrom",
        "MAGIC: Near-optimal data attribution for deep learning",
        "", 2025, ("arXiv:2504.16430",),
    ),
    "jia2019": Reference(
        "Jia, Dao, Wang, Hubis, Gürel, Li, Zhang, Spanos and Song",
        "Efficient task-specific data valuation for nearest neighbor algorithms",
        "PVLDB 12(11), 1610-1623", 2019, ("doi:10.14778/3342263.3342637", "arXiv:1908.08619"),
    ),
    "koh2017": Reference(
        "Koh and Liang",
        "Understanding black-box predictions via influence functions",
        "ICML", 2017, ("arXiv:1703.04730",),
    ),
    "lundberg2017": Reference(
        "Lundberg and Lee",
        "A unified approach to interpreting model predictions",
        "NeurIPS", 2017, ("arXiv:1705.07874",),
    ),
    "martens2015": Reference(
        "Martens and Grosse",
        "Optimizing neural networks with Kronecker-factored approximate curvature",
        "ICML", 2015, ("arXiv:1503.05671",),
    ),
    "mitchell2022": Reference(
        "Mitchell, Cooper, Frank and Holmes",
        "Sampling permutations for Shapley value estimation",
        "Journal of Machine Learning Research 23(43), 1–46", 2022, ("arXiv:2104.12199",),
    ),
    "park2023": Reference(
        "Park, Georgiev, Ilyas, Leclerc and Madry",
        "TRAK: Attributing model behavior at scale",
        "ICML", 2023, ("arXiv:2303.14186",),
    ),
    "petsiuk2018": Reference(
        "Petsiuk, Das and Saenko",
        "RISE: Randomized input sampling for explanation of black-box models",
        "BMVC", 2018, ("arXiv:1806.07421",),
    ),
    "pruthi2020": Reference(
        "Pruthi, Liu, Kale and Sundararajan",
        "Estimating training data influence by tracing gradient descent",
        "NeurIPS", 2020, ("arXiv:2002.08484",),
    ),
    "ribeiro2016": Reference(
        "Ribeiro, Singh and Guestrin",
        "“Why should I trust you?”: Explaining the predictions of any classifier",
        "KDD", 2016, ("doi:10.1145/2939672.2939778", "arXiv:1602.04938"),
    ),
    "schioppa2022": Reference(
        "Schioppa, Zablotskaia, Vilar and Sokolov",
        "Scaling up influence functions",
        "AAAI", 2022, ("arXiv:2112.03052",),
    ),
    "shapley1953": Reference(
        "Shapley",
        "A value for n-person games",
        "Contributions to the Theory of Games II, Princeton University Press, 307–317", 1953,
        ("doi:10.1515/9781400881970-018",),
    ),
    "shrikumar2017": Reference(
        "Shrikumar, Greenside and Kundaje",
        "Learning important features through propagating activation differences",
        "ICML", 2017, ("arXiv:1704.02685",),
    ),
    "simonyan2014": Reference(
        "Simonyan, Vedaldi and Zisserman",
        "Deep inside convolutional networks: Visualising image classification models and saliency "
        "maps",
        "ICLR workshop", 2014, ("arXiv:1312.6034",),
    ),
    "smilkov2017": Reference(
        "Smilkov, Thorat, Kim, Viégas and Wattenberg",
        "SmoothGrad: removing noise by adding noise",
        "", 2017, ("arXiv:1706.03825",),
    ),
    "springenberg2015": Reference(
        "Springenberg, Dosovitskiy, Brox and Riedmiller",
        "Striving for simplicity: The all convolutional net",
        "ICLR workshop", 2015, ("arXiv:1412.6806",),
    ),
    "sundararajan2017": Reference(
        "Sundararajan, Taly and Yan",
        "Axiomatic attribution for deep networks",
        "ICML", 2017, ("arXiv:1703.01365",),
    ),
    "zeiler2014": Reference(
        "Zeiler and Fergus",
        "Visualizing and understanding convolutional networks",
        "ECCV", 2014, ("doi:10.1007/978-3-319-10590-1_53", "arXiv:1311.2901"),
    ),
}  # fmt: skip


def references(keys: Iterable[str]) -> list[Reference]:
    """The works behind the keys, each once, in the order they are first named."""
    wanted = list(dict.fromkeys(keys))
    unknown = [key for key in wanted if key not in REFERENCES]
    if unknown:
        raise BadRequest(
            f"no reference is kept under {unknown[0]!r}; add it to apportion.citations.REFERENCES "
            f"(there are {len(REFERENCES)}: {', '.join(list(REFERENCES)[:4])}, ...)"
        )
    return [REFERENCES[key] for key in wanted]


def cite(keys: Iterable[str]) -> str:
    """References, one per line."""
    return "\n".join(map(str, references(keys)))
