"""Where the measures come from: what to cite with a number."""

from collections.abc import Iterable
from typing import Any

from ..tallies import StateTable
from ._abstract import AbstractMeasure

SCHAUB = "Schaub, N. J., & Hotaling, N. (2020). Assessing intelligence in artificial neural networks. arXiv:2006.02909."
RENYI = (
    "Rényi, A. (1961). On measures of entropy and information. Proc. 4th Berkeley Symp. Math. Stat. Prob. 1, 547-561."
)
GOOD = "Good, I. J. (1953). The population frequencies of species and the estimation of population parameters. Biometrika 40, 237-264."
CHAO = (
    "Chao, A., Wang, Y. T., & Jost, L. (2013). Entropy and the species accumulation curve. Methods Ecol. Evol. 4, 1091-1100; "
    "c1 and c2 carry it to samples whose rows depend on each other."
)
SHANNON = "Shannon, C. E. (1948). A mathematical theory of communication. Bell Syst. Tech. J. 27, 379-423."
WATANABE = (
    "Watanabe, S. (1960). Information theoretical analysis of multivariate correlation. IBM J. Res. Dev. 4, 66-82."
)
CHAN = "Chan, T. F., Golub, G. H., & LeVeque, R. J. (1979). Updating formulae and a pairwise algorithm for computing sample variances. Stanford STAN-CS-79-773."
QUIROGA_2019 = "Quiroga, F., Torrents-Barrena, J., Lanzarini, L., & Puig, D. (2019). Measuring (in)variances in convolutional networks. CCIS 1050."
QUIROGA = "Quiroga, F., Torrents-Barrena, J., Lanzarini, L., & Puig-Valls, D. (2023). Invariance measures for neural networks. Appl. Soft Comput. 132, 109817; arXiv:2310.17404."
GOODFELLOW = (
    "Goodfellow, I., Lee, H., Le, Q. V., Saxe, A., & Ng, A. Y. (2009). Measuring invariances in deep networks. NIPS 22."
)
FISHER = "Fisher, R. A. (1925). Statistical Methods for Research Workers. Oliver & Boyd."
KORNBLITH = "Kornblith, S., Norouzi, M., Lee, H., & Hinton, G. (2019). Similarity of neural network representations revisited. ICML; arXiv:1905.00414."
SONG = "Song, L., Smola, A., Gretton, A., Bedo, J., & Borgwardt, K. (2012). Feature selection via dependence maximization. JMLR 13, 1393-1434."

ESTIMATORS = {
    "miller-madow": "Miller, G. A. (1955). Note on the bias of information estimates. Information Theory in Psychology, 95-100.",
    "grassberger": "Grassberger, P. (2003). Entropy estimates from insufficient samplings. arXiv:physics/0307138.",
    "chao-shen": "Chao, A., & Shen, T.-J. (2003). Nonparametric estimation of Shannon's index of diversity. Environ. Ecol. Stat. 10, 429-443.",
    "chao-wang-jost": CHAO,
    "jackknife": "Zahl, S. (1977). Jackknifing an index of diversity. Ecology 58, 907-913.",
    "c1": CHAO,
    "c2": CHAO,
}
"""By the name of the estimator, beside what the measure itself cites."""
SOURCES: dict[str, tuple[str, ...]] = {
    "entropy": (RENYI, SCHAUB),
    "efficiency": (SCHAUB, RENYI),
    "network efficiency": (SCHAUB,),
    "saturation": (SCHAUB,),
    "entropy by transformation": (RENYI, SCHAUB),
    "total correlation": (WATANABE, CHAO),
    "information": (SHANNON, CHAO),
    "entropy given class": (SHANNON, CHAO),
    "firing rate": (),
    "dead units": (),
    "always-on units": (),
    "equal units": (),
    "redundant units": (),
    "activation": (CHAN,),
    "transformation variance": (QUIROGA, CHAN),
    "sample variance": (QUIROGA, CHAN),
    "sample variance by transformation": (QUIROGA, CHAN),
    "normalized variance": (QUIROGA_2019, QUIROGA, CHAN),
    "features variance": (QUIROGA, CHAN),
    "normalized features variance": (QUIROGA, CHAN),
    "same-equivariance": (QUIROGA, CHAN),
    "normalized same-equivariance": (QUIROGA, CHAN),
    "total": (QUIROGA,),
    "anova": (FISHER, QUIROGA, CHAN),
    "distance": (QUIROGA,),
    "cka": (KORNBLITH, SONG, CHAN),
    "goodfellow": (GOODFELLOW, QUIROGA),
}
"""By the name of the measure; a count of units needs no source."""


def sources_of(measures: Iterable[AbstractMeasure[Any]]) -> list[str]:
    """What to cite with the numbers of these measures, each once, in their order; coverage stands with every number of states."""
    found: list[str] = []
    for measure in measures:
        found += SOURCES.get(measure.name, ())
        found += filter(None, [ESTIMATORS.get(str(getattr(measure, "estimator", "")))])
        found += [GOOD] if isinstance(measure.tally, StateTable) else []
    return list(dict.fromkeys(found))
