"""The table of :mod:`whole_volume`, as Markdown."""

from __future__ import annotations

from typing import Any

from publishing import footer

MM = 1.5
STAGES = ("read", "preprocess", "inference", "postprocess", "write")
LINES = {
    "monai": "MONAI SlidingWindowInferer",
    "pytorch-fp32": "medptq, PyTorch FP32",
    "pytorch-fp16": "medptq, PyTorch AMP",
    "openvino-fp32": "medptq, OpenVINO FP32",
    "openvino-int8": "medptq, OpenVINO INT8",
    "tensorrt-fp16": "medptq, TensorRT FP16",
    "tensorrt-int8": "medptq, TensorRT INT8 as chosen",
}


def table(report: dict[str, Any]) -> str:
    size = " x ".join(str(length) for length in report["size"])
    voxels = "" if report["file_mm"] == MM else f", from a file of {report['file_mm']} mm"
    text = [
        f"# A whole volume: {size} voxels at {MM} mm{voxels}, file to label map",
        "",
        f"{report['network']}, random weights, patch {report['patch']}³, overlap "
        f"{report['overlap']}, Gaussian blending, `{report['suffix']}` files. Median of "
        f"{report['runs']} runs after a first one, in seconds. *Device*: all that is in use on the "
        "GPU at the peak, CUDA's own included; *host*: peak resident memory of the process; "
        "*write*: with all that is in no other stage. Ratios and agreement are against the first "
        "line.",
    ]
    for classes in dict.fromkeys(result["classes"] for result in report["results"]):
        text += [
            "",
            f"## {classes} classes",
            "",
            f"| | total | times faster | {' | '.join(STAGES)} | device GB | times less | host GB "
            "| same voxels |",
            "|---|" + "---:|" * (len(STAGES) + 6),
        ]
        results = [result for result in report["results"] if result["classes"] == classes]
        base = next((result for result in results if "seconds" in result), {})
        notes = []
        for result in results:
            name = LINES[result["line"]]
            if "not_run" in result:
                text.append(f"| {name} | *{result['not_run']}* |" + " |" * (len(STAGES) + 5))
                continue
            stages = " | ".join(f"{result['stages'][stage]:.2f}" for stage in STAGES)
            device, less = "", ""
            if "device_mb" in result:
                device = f"{result['device_mb'] / 1e3:.2f}"
                less = f"{base['device_mb'] / result['device_mb']:.2f}"
            text.append(
                f"| {name} | {result['seconds']:.2f} | {base['seconds'] / result['seconds']:.2f} "
                f"| {stages} | {device} | {less} | {result['host_mb'] / 1e3:.2f} "
                f"| {result['agreement']:.3%} |"
            )
            built = f"built in {result['build_seconds']:.0f} s" if "build_seconds" in result else ""
            told = [built, result.get("build_note", ""), result["note"]]
            notes += [f"* {name}: {'; '.join(filter(None, told))}"] if any(told) else []
        text += ["", *notes]
    if report["file_mm"] != MM:
        text += [
            "",
            "On the way back to the file's voxels medptq interpolates the outputs of all classes; "
            "MONAI's line takes the nearest label, as all outputs would not fit a GPU.",
        ]
    return "\n".join(text) + "\n" + footer(report)
