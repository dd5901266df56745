"""What all tests share."""

# Imported early: pytest's terminal summary would import it deep in its stack, where CPython 3.11's parser gives up.
import hypothesis

hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")
