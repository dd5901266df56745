"""The shipped application: moderation and analysis of shop reviews. Imports only `penstock`."""

from review_moderation.analyzer import analyzer
from review_moderation.moderator import moderator, moderator_under
from review_moderation.policy import Clause, Policy, PolicyError, load_policy
from review_moderation.schemas import Analysis, Moderation, Review

__all__ = [
    "Analysis",
    "Clause",
    "Moderation",
    "Policy",
    "PolicyError",
    "Review",
    "analyzer",
    "load_policy",
    "moderator",
    "moderator_under",
]
