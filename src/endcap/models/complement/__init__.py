"""Complement or substitute: `model` tells them apart, and uses

pairs, counts              labels and splits, from relations or from behaviour
features, links, alike     what the graph and the catalogue say of a pair
gnn                        the graph network
measures                   calibration, and how good a judgement is
"""

from endcap.models.complement.model import Complement

__all__ = ["Complement"]
