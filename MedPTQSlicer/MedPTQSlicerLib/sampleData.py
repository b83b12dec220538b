"""Public scans for trying the module, in Slicer's Sample Data module.

They are Slicer's own sample data, under the addresses and checksums that Slicer publishes them.
"""

from __future__ import annotations

from pathlib import Path

CATEGORY = "MedPTQSlicer"
HEAD = "MedPTQHead"
HEADS_FOR_CALIBRATION = "MedPTQCalibrationHeads"

_URL = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/"
_ICON = Path(__file__).parents[1] / "Resources" / "Icons" / "MedPTQSlicer.png"

# File name, node name, SHA-256; all T1-weighted heads of adults.
_HEAD = (
    (
        "MR-head.nrrd",
        "MRHead",
        "cc211f0dfd9a05ca3841ce1141b292898b2dd2d3f08286affadf823a7e58df93",
    ),
)
_OTHER_HEADS = (
    (
        "RegLib_C01_1.nrrd",
        "MRBrainTumor1",
        "998cb522173839c78657f4bc0ea907cea09fd04e44601f17c82ea27927937b95",
    ),
    (
        "RegLib_C01_2.nrrd",
        "MRBrainTumor2",
        "1a64f3f422eb3d1c9b093d1a18da354b13bcf307907c66317e2463ee530b7a97",
    ),
    (
        "MR-brain-T1.nrrd",
        "MRBrainT1",
        "2da3f655ed20356ee8cdf32aa0f8f9420385de4b6e407d28e67f9974d7ce1593",
    ),
)


def registerSampleData() -> None:
    """Add the module's scans to Slicer's Sample Data module; nothing is downloaded yet."""
    import SampleData

    for name, scans in ((HEAD, _HEAD), (HEADS_FOR_CALIBRATION, _OTHER_HEADS)):
        files, nodes, digests = zip(*scans, strict=True)
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            uris=[_URL + digest for digest in digests],
            fileNames=list(files),
            nodeNames=list(nodes),
            checksums=[f"SHA256:{digest}" for digest in digests],
            thumbnailFileName=str(_ICON),
        )
