"""A task for the crash proof: the shipped moderator, its results in the order of each product's reviews.

test → [crash tasks] → penstock run
"""

from review_moderation.moderator import moderator_under
from review_moderation.policy import load_policy

in_order = moderator_under(load_policy(), name="review-moderator-in-order", order="key")
