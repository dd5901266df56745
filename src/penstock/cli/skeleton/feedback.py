"""Sorts what customers write. Try it: penstock try feedback:sorter "The app closes when I open a photo" """

from typing import Literal

from pydantic import BaseModel, Field

from penstock import Route, Step, Task


class Feedback(BaseModel):
    """An event of the topic `feedback`, as it is produced. Fields that are not listed are ignored."""

    id: str
    customer: str = ""
    text: str = Field(min_length=1)


class Sorted(BaseModel):
    """What Claude answers. It reads the descriptions, so put the fine points there."""

    kind: Literal["bug", "wish", "praise", "question", "other"]
    urgency: Literal["now", "soon", "whenever"] = Field(description="now: the customer cannot go on, or loses money")
    summary: str = Field(description="What they say, in one short English sentence")


sorter = Task(
    "feedback-sorter",
    reads="feedback",
    writes="feedback-sorted",
    dead_letters="feedback-dlq",
    input=Feedback,
    output=Sorted,
    instructions="You sort what customers of a photo app write, in whatever language. Judge only what the text says.",
    show={"text"},  # the model has no need to know who wrote it
    route=Route(Step("haiku", accept="likely"), Step("sonnet")),  # what haiku is not sure of goes to sonnet
    start_from="earliest",  # "latest" (the default) leaves out what was there before the first start
)
