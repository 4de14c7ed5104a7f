"""Where an app gets each runtime: package coordinates by platform, and what has been tried of the samples.

The names are those the projects publish under; none of them is contacted. The version to ask for is the one that the
artefact was gated with: a runtime reads files of older ones, the other way round is not tried.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """platform: for whom. name: what to depend on; `{version}` is filled in. source: who publishes it, or where."""

    platform: str
    name: str
    source: str


ORT = "ONNX Runtime, microsoft/onnxruntime"
LITERT = "LiteRT, google-ai-edge/LiteRT"
EXECUTORCH = "ExecuTorch, pytorch/executorch"
OPENVINO = "OpenVINO, openvinotoolkit/openvino"
NCNN = "ncnn, Tencent/ncnn"
PACKAGES: dict[str, tuple[Package, ...]] = {
    "onnxruntime": (
        Package("Python", "pip: onnxruntime=={version}", ORT),
        Package("Android, Kotlin or Java", "Maven: com.microsoft.onnxruntime:onnxruntime-android:{version}", ORT),
        Package("JVM on a desktop or server", "Maven: com.microsoft.onnxruntime:onnxruntime:{version}", ORT),
        Package("iOS and macOS, Swift", "SwiftPM: github.com/microsoft/onnxruntime-swift-package-manager", ORT),
        Package("iOS, CocoaPods", "onnxruntime-objc {version}, or onnxruntime-c for C++", ORT),
        Package("C++ on Windows, .NET", "NuGet: Microsoft.ML.OnnxRuntime {version}", ORT),
        Package("C++ on Linux and macOS", "release archive onnxruntime-<system>-<machine>-{version}.tgz", ORT),
    ),
    "litert": (
        Package("Python", "pip: ai-edge-litert=={version}", LITERT),
        Package("Android, Kotlin or Java", "Maven: com.google.ai.edge.litert:litert:{version}", LITERT),
        Package("iOS, Swift", "CocoaPods: TensorFlowLiteSwift", LITERT),
        Package("C++", "built from source with CMake or Bazel", LITERT),
    ),
    "openvino": (
        Package("Python", "pip: openvino=={version}", OPENVINO),
        Package(
            "C++ on Linux, Windows, macOS", "release archive {version}, apt or brew; also inside the wheel", OPENVINO
        ),
    ),
    "executorch": (
        Package("Python", "pip: executorch=={version}", EXECUTORCH),
        Package("Android, Kotlin or Java", "Maven: org.pytorch:executorch-android:{version}", EXECUTORCH),
        Package("iOS and macOS, Swift", "SwiftPM: github.com/pytorch/executorch, branch swiftpm-{version}", EXECUTORCH),
        Package("C++", "built from source with CMake, with the XNNPACK backend", EXECUTORCH),
    ),
    "ncnn": (
        Package("Python", "pip: ncnn=={version}", NCNN),
        Package("Android, C++ through JNI", "release archive ncnn-<date>-android.zip", NCNN),
        Package("iOS and macOS, C++", "release archive ncnn-<date>-apple.zip", NCNN),
        Package("C++ on Linux and Windows", "release archive, apt libncnn-dev, vcpkg ncnn or source", NCNN),
    ),
    "coreml": (
        Package("iOS and macOS, Swift", "part of the system; the file states the least system version", "Apple"),
        Package("Python on macOS", "pip: coremltools=={version}", "apple/coremltools"),
    ),
}
EXTENSIONS = (
    Package("Python", "pip: onnxruntime-extensions=={version}", "microsoft/onnxruntime-extensions"),
    Package("Android", "Maven: com.microsoft.onnxruntime:onnxruntime-extensions-android", "the same project"),
    Package("iOS, CocoaPods", "onnxruntime-extensions-c", "the same project"),
    Package("Windows, .NET", "NuGet: Microsoft.ML.OnnxRuntime.Extensions", "the same project"),
)
"""Each platform has releases of its own: the versions need not be equal."""
TOKENIZERS = (
    Package("Python, Rust", "pip: tokenizers=={version}", "huggingface/tokenizers, which made the golden vectors"),
    Package("Android and JVM", "Maven: ai.djl.huggingface:tokenizers", "deepjavalibrary/djl, the same Rust code"),
    Package("iOS and macOS, Swift", "SwiftPM: github.com/huggingface/swift-transformers", "written anew: test it"),
    Package("C++", "github.com/mlc-ai/tokenizers-cpp", "the same Rust code"),
)
LANGUAGES = {
    "onnxruntime": ("python", "cpp", "kotlin", "swift"),
    "litert": ("python", "cpp", "kotlin", "swift"),
    "openvino": ("python", "cpp"),
    "executorch": ("python", "cpp", "kotlin", "swift"),
    "ncnn": ("python", "cpp"),
    "coreml": ("python", "swift"),
}
"""Runtime -> languages it has an interface for."""
NAMES = {"python": "Python", "cpp": "C++", "kotlin": "Kotlin", "swift": "Swift"}
TRIED = {
    ("onnxruntime", "python"): "run by edgeft's tests",
    ("litert", "python"): "run by edgeft's tests",
    ("openvino", "python"): "run by edgeft's tests",
    ("ncnn", "python"): "run by edgeft's tests",
    ("onnxruntime", "cpp"): "compiled and run by edgeft's tests where ONNX Runtime's headers are installed",
    ("openvino", "cpp"): "compiled and run by edgeft's tests",
}
NOT_TRIED = "not compiled and not run where it was written"
