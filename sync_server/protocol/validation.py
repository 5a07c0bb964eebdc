"""What is wrong with a value, said to the peer: the field's path and one clause, never the value itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sync_server.errors import CommandError, ErrorCode
from sync_server.types import IDENTIFIER_PATTERN, SPACE_ID_PATTERN

MAX_PATH_LENGTH = 200
MAX_PART_LENGTH = 64

_PROBLEMS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this type",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be a list",
    "none_required": "must be null",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "string_unicode": "must be valid Unicode",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
}
_IDENTIFIER_PROBLEM = "must be 1 to {} of the characters A-Z a-z 0-9 _ -"
_IDENTIFIERS = {IDENTIFIER_PATTERN: 64, SPACE_ID_PATTERN: 66}
_UNION_TAGS = frozenset({"int", "str", "float", "bool", "none", "constrained-int", "constrained-str"})


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The path of the first field that is wrong and what is wrong with it.

    The path joins keys and list positions with dots (`operations.3.entity_id`); it is empty when the value as a whole
    is wrong. Both texts are of bounded length and hold nothing that was sent but keys. Where a field may have several
    forms, the clauses are joined by "or".

    >>> from pydantic import TypeAdapter
    >>> try:
    ...     TypeAdapter(dict[str, int]).validate_python({"age": "secret"}, strict=True)
    ... except ValidationError as error:
    ...     first_problem(error)
    ('age', 'must be an integer')
    """
    problems = error.errors(include_url=False, include_input=False)
    path = _path(problems[0])
    sentences = dict.fromkeys(_sentence(problem) for problem in problems if _path(problem) == path)
    return path, " or ".join(sentences)


def validation_error(field: str, problem: str) -> CommandError:
    """The reply to a value that is wrong, the same through every door."""
    subject = f"The field {field}" if field else "The message"
    return CommandError(
        ErrorCode.VALIDATION_ERROR, f"{subject} {problem}.", details={"field": field, "problem": problem}
    )


def _path(problem: Any) -> str:
    location: Sequence[int | str] = problem["loc"]
    last = len(location) - 1 if problem["type"] == "extra_forbidden" else len(location)
    parts = [_part(part) for position, part in enumerate(location) if position == last or not _is_union_tag(part)]
    return ".".join(parts)[:MAX_PATH_LENGTH]


def _is_union_tag(part: int | str) -> bool:
    """Pydantic names the member of a union in the path; our fields are lower case, its tags are types."""
    return isinstance(part, str) and (part in _UNION_TAGS or part[:1].isupper() or part.endswith(("]", ")")))


def _part(part: int | str) -> str:
    text = str(part)[:MAX_PART_LENGTH]
    return text if text.isprintable() else ascii(text)[1:-1]


def _sentence(problem: Any) -> str:
    context = problem.get("ctx", {})
    if context.get("pattern") in _IDENTIFIERS:
        return _IDENTIFIER_PROBLEM.format(_IDENTIFIERS[context["pattern"]])
    template = _PROBLEMS.get(problem["type"], "is not valid")
    return template.format_map(context)
