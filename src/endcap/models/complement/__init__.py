"""Complement or substitute: `model` tells them apart, and uses

pairs, counts              labels and splits, from relations or from behaviour
features, columns          what is known of a pair, as numbers
links, alike               of these, what the neighbours of both say
missing                    categories that the catalogue does not say
gnn                        the graph network
measures                   calibration, and how good a judgement is
"""

from endcap.models.complement.model import Complement

__all__ = ["Complement"]
