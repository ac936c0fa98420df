"""The part of `--config=file.py:ARG` after the colon: variants of one config file."""

import types


def parse_arg(arg: str, **defaults: bool | int | float | str) -> types.SimpleNamespace:
    """Reads "phantom,loss=bce" against the variants that a config has.

    Args:
        arg: comma-separated names and name=value pairs; "" for none.
        **defaults: each variant with its default, which gives the type of its value.

    Returns:
        The defaults with what `arg` sets; a bare name sets True.

    Raises:
        ValueError: an unknown variant, or a value of another type.
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
