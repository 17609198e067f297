"""`sessions`: a simulated shop with search, feed, impressions, clicks and purchases, and known click probabilities.

The labelled stand-in for Session-US, the proprietary data of the SynerGen paper (section 4.1). Nothing in it is real.
"""

from synergen.data.sessions.truth import Truth
from synergen.data.sessions.write import VERSION, folder_for, simulate

__all__ = ["VERSION", "Truth", "folder_for", "simulate"]
