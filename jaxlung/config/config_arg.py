"""Parses the part of `--config=file.py:ARG` after the colon, which chooses a config's variants."""

import types


def parse_arg(arg: str, **defaults: bool | int | float | str) -> types.SimpleNamespace:
    """Parses an argument such as "phantom,loss=bce".

    Args:
        arg: comma-separated names and name=value pairs; "" for none. A bare name sets True.
        **defaults: the variants that the config has, with default values of the right types.

    Returns:
        The defaults, overridden by `arg`.

    Raises:
        ValueError: `arg` names an unknown variant, or a value has another type.
    """
    values = dict(defaults)
    for part in filter(None, arg.split(",")):
        name, _, text = part.partition("=")
        if name not in defaults:
            raise ValueError(f"config variant: got {name!r}, want one of {', '.join(defaults)}.")
        values[name] = _to_type(name, text, type(defaults[name]), bare="=" not in part)
    return types.SimpleNamespace(**values)


def _to_type(name: str, text: str, kind: type, *, bare: bool) -> bool | int | float | str:
    if kind is bool:
        flags = {"true": True, "false": False}
        if bare:
            return True
        if text.lower() not in flags:
            raise ValueError(f"config variant {name}: got {text!r}, want true or false.")
        return flags[text.lower()]
    if bare:
        raise ValueError(f"config variant {name}: got no value, want {name}=VALUE.")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"config variant {name}: got {text!r}, want {kind.__name__}.") from None
