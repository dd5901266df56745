"""What the API accepts of each request field, model by model.

[rules] → validation
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.simulator.failures import BadRequest
from penstock.simulator.models import ALL_EFFORTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.simulator.models import Model

THINKING_TYPES = ("adaptive", "between_tools", "disabled", "enabled")
CONTROLS = 'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
MIN_BUDGET_TOKENS = 1024
MAX_STRICT_TOOLS = 20


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """`output_config`, checked."""

    effort: str | None = None
    schema: Any = None


def only(value: dict[str, Any], allowed: Iterable[str], where: str) -> None:
    """No key but the allowed ones."""
    for key in value:
        if key not in allowed:
            raise BadRequest(f"{where}.{key}: Extra inputs are not permitted")


def obj(value: Any, where: str) -> dict[str, Any]:
    """An object, nothing else."""
    if not isinstance(value, dict):
        raise BadRequest(f"{where}: Input should be a valid dictionary")
    return value


def choice(body: dict[str, Any], key: str, allowed: tuple[Any, ...], message: str) -> None:
    """One of a few values, where the key is there at all."""
    if key in body and not any(body[key] is value or (body[key] == value and type(body[key]) is type(value)) for value in allowed):  # fmt: skip
        raise BadRequest(f"{key}: {message}")


def max_tokens(body: dict[str, Any], model: Model) -> int:
    """`max_tokens` within the model's range; 0 fills the cache only."""
    if "max_tokens" not in body:
        raise BadRequest("max_tokens: Field required")
    value = body["max_tokens"]
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRequest("max_tokens: Input should be a valid integer")
    if value < 0:
        raise BadRequest("max_tokens: Input should be greater than or equal to 0")
    if value > model.max_output_tokens:
        raise BadRequest(
            f"max_tokens: {value} > {model.max_output_tokens}, which is the maximum allowed number of output tokens for {model.id}"
        )
    return value


def output_config(value: Any, model: Model) -> OutputConfig:
    """Effort and format."""
    if value is None:
        return OutputConfig()
    config = obj(value, "output_config")
    only(config, ("effort", "format"), "output_config")
    effort = config.get("effort")
    if effort is not None:
        _effort(effort, model)
    wanted = config.get("format")
    if wanted is None:
        return OutputConfig(effort)
    obj(wanted, "output_config.format")
    if wanted.get("type") != "json_schema":
        raise BadRequest("output_config.format.type: Input should be 'json_schema'")
    only(wanted, ("type", "schema"), "output_config.format")
    if "schema" not in wanted:
        raise BadRequest("output_config.format.schema: Field required")
    return OutputConfig(effort, obj(wanted["schema"], "output_config.format.schema"))


def _effort(effort: Any, model: Model) -> None:
    if effort not in ALL_EFFORTS:
        raise BadRequest("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    if not model.efforts:
        raise BadRequest("This model does not support the effort parameter.")
    if effort not in model.efforts:
        raise BadRequest(f"output_config.effort: '{effort}' is not supported on {model.id}")


def thinking(value: Any, model: Model, effort: str, max_tokens: Any) -> bool:
    """Whether the model thinks; rejects what it does not accept."""
    if value is None:
        return model.thinking.by_default
    config = obj(value, "thinking")
    kind = config.get("type")
    if kind not in THINKING_TYPES:
        raise BadRequest(
            f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags: "
            + ", ".join(f"'{name}'" for name in THINKING_TYPES)
        )
    if kind not in model.thinking.accepts:
        raise BadRequest(_unsupported(kind, model))
    only(config, _THINKING_KEYS[kind], f"thinking.{kind}")
    if kind == "enabled":
        _budget(config.get("budget_tokens"), max_tokens)
    if kind == model.thinking.off:
        if effort not in model.thinking.off_efforts:
            raise BadRequest(f'thinking.type: "{kind}" is not supported at effort "{effort}" on this model. Use effort "high" or lower.')  # fmt: skip
        return False
    return True


_THINKING_KEYS = {
    "adaptive": ("type", "display"),
    "between_tools": ("type",),
    "disabled": ("type",),
    "enabled": ("type", "display", "budget_tokens"),
}


def _unsupported(kind: str, model: Model) -> str:
    if kind == "disabled" and model.thinking.off == "between_tools":
        return (
            'To turn thinking off on this model, send "thinking": {"type": "between_tools"} instead of {"type": "disabled"}. '
            "With between_tools the model thinks only between tool calls."
        )
    if kind == "adaptive":
        return "adaptive thinking is not supported on this model"
    return f'"thinking.type.{kind}" is not supported for this model. {CONTROLS}'


def _budget(budget: Any, max_tokens: Any) -> None:
    if not isinstance(budget, int) or isinstance(budget, bool):
        raise BadRequest("thinking.enabled.budget_tokens: Field required")
    if budget < MIN_BUDGET_TOKENS:
        raise BadRequest("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if isinstance(max_tokens, int) and max_tokens <= budget:
        raise BadRequest("`max_tokens` must be greater than `thinking.budget_tokens`.")


def tools(value: Any) -> list[dict[str, Any]]:
    """The caller's own tools; the simulator has none of the server's."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRequest("tools: Input should be a valid list")
    names: set[str] = set()
    for index, tool in enumerate(value):
        where = f"tools.{index}"
        obj(tool, where)
        if tool.get("type") not in (None, "custom"):
            raise BadRequest(f"{where}: the Penstock simulator does not have server tools")
        only(tool, ("type", "name", "description", "input_schema", "strict", "cache_control"), where)
        name = tool.get("name")
        if not isinstance(name, str) or not name:
            raise BadRequest(f"{where}.name: Field required")
        if name in names:
            raise BadRequest("tools: Tool names must be unique.")
        names.add(name)
        if obj(tool.get("input_schema"), f"{where}.input_schema").get("type") != "object":
            raise BadRequest(f"{where}.input_schema.type: Input should be 'object'")
    if sum(tool.get("strict") is True for tool in value) > MAX_STRICT_TOOLS:
        raise BadRequest(f"tools: Too many strict tools. The maximum is {MAX_STRICT_TOOLS}.")
    return value


def forced_tool(value: Any, tools: list[dict[str, Any]], model: Model) -> dict[str, Any] | None:
    """The tool that must be called, if one must."""
    if value is None:
        return None
    kind = obj(value, "tool_choice").get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise BadRequest("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    if not tools and kind != "none":
        raise BadRequest("tool_choice: may only be specified while providing tools")
    if kind in ("auto", "none"):
        return None
    if not model.forced_tools:
        raise BadRequest(f'tool_choice: "{kind}" is not supported for this model. Use "auto".')
    if kind == "any":
        return tools[0]
    for tool in tools:
        if tool["name"] == value.get("name"):
            return tool
    raise BadRequest(f"Tool '{value.get('name')}' not found in provided tools")


def fast(value: Any, model: Model) -> bool:
    """Whether the faster, dearer mode is asked for and offered."""
    if value in (None, "standard"):
        return False
    if value != "fast":
        raise BadRequest("speed: Input should be 'standard' or 'fast'")
    if not model.fast:
        raise BadRequest(f"speed: fast mode is not supported on {model.id}")
    return True


def metadata(value: Any) -> None:
    """`metadata.user_id` only."""
    if value is None:
        return
    only(obj(value, "metadata"), ("user_id",), "metadata")
    user = value.get("user_id")
    if user is not None and (not isinstance(user, str) or len(user) > 256):
        raise BadRequest("metadata.user_id: Input should be a valid string of at most 256 characters")


def stop_sequences(value: Any) -> None:
    """A list of strings with something in them."""
    if value is None:
        return
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise BadRequest("stop_sequences: Input should be a valid list of strings")
    if any(not entry.strip() for entry in value):
        raise BadRequest("stop_sequences: each stop sequence must contain non-whitespace")
