"""`penstock simulate`: the offline Claude API in the foreground.

terminal → [simulate] → simulator
"""

from __future__ import annotations
