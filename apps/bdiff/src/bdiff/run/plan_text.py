"""A plan for people."""

from bdiff.run.plan import Plan


def plan_lines(plan: Plan) -> list[str]:
    """The plan for people."""
    parts = ", ".join(f"{name} {_bytes(size)}" for name, size in plan.memory.items() if size)
    return [
        f"video        {plan.seconds:.1f} s in {plan.chunks} chunks"
        + (f", {plan.given} of them given" if plan.given else ""),
        f"transformer  {plan.parameters / 1e6:,.1f} M parameters",
        f"a chunk      {plan.tokens_per_chunk:,} tokens, up to {plan.context_tokens:,} of the past in view",
        f"positions    {_frames_in_view(plan)}",
        f"its memory   {_bytes(plan.kv_bytes_per_chunk)} of keys and values, {_bytes(plan.kept_bytes_per_chunk)} at "
        f"{plan.share:.0%} of the tokens",
        f"peak         {_bytes(plan.peak)} of {_bytes(plan.available)} free: {parts}",
        f"work         {plan.flops_per_chunk / 1e12:.3g} Tflop a chunk",
        f"time         {_duration(plan.floor_seconds)} at the least, at the {plan.flops_per_second / 1e9:,.0f} Gflop/s "
        "measured here",
    ]


def _frames_in_view(plan: Plan) -> str:
    seen = f"{plan.frames_in_view} latent frames in view"
    if plan.trained_frames is None:
        return seen
    return seen + (
        f", an extrapolation: the model was trained with {plan.trained_frames} at most"
        if plan.extrapolates
        else f" of {plan.trained_frames} that the model was trained with"
    )


def plan_line(plan: Plan) -> str:
    """The plan in one line."""
    return (
        f"{plan.seconds:.1f} s of video in {plan.chunks} chunks of {plan.tokens_per_chunk:,} tokens; "
        f"{plan.parameters / 1e6:,.1f} M parameters; memory about {_bytes(plan.peak)}; "
        f"at least {_duration(plan.floor_seconds)} of computing"
        + (f"; {_frames_in_view(plan)}" if plan.extrapolates else "")
    )


def plan_refusal(plan: Plan) -> str | None:
    """Why it will not fit, and what to change; None if it fits."""
    if plan.fits:
        return None
    largest = max(plan.memory, key=lambda name: plan.memory[name])
    remedy = {
        "transformer": "--dtype bfloat16 halves it",
        "autoencoder": "--dtype bfloat16 halves it",
        "text encoder": "--offload holds it only while prompts are encoded, --dtype bfloat16 halves it",
        "image encoder": "--offload holds it only while the picture is encoded, --dtype bfloat16 halves it",
        "context of a chunk": "a smaller --height and --width, or another --policy",
        "memory of the past": "a smaller --memory-limit",
        "activations": "a smaller --height and --width",
        "program": "free some memory",
    }[largest]
    return (
        f"this needs {_bytes(plan.peak)} of memory and {_bytes(plan.available)} are free; the largest part is the "
        f"{largest}, {_bytes(plan.memory[largest])}: {remedy}"
    )


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
