"""The blocks that nnU-Net's networks are made of, under nnU-Net's own names."""

from __future__ import annotations

from torch import Tensor, nn

Triple = tuple[int, int, int]


class ConvBlock(nn.Module):
    """A convolution with InstanceNorm, and LeakyReLU where ``activates``.

    Checkpoints hold each weight twice, under its own name and under ``all_modules``.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Triple,
        stride: Triple,
        *,
        bias: bool,
        activates: bool = True,
    ) -> None:
        super().__init__()
        d, h, w = ((size - 1) // 2 for size in kernel)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, (d, h, w), bias=bias)
        self.norm = nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)
        self.all_modules = nn.Sequential(self.conv, self.norm)
        if activates:
            self.all_modules.append(nn.LeakyReLU(0.01, inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, [N, outputs, D, H, W] reduced by the stride."""
        return self.all_modules(x)  # type: ignore[no-any-return]


class ConvBlocks(nn.Module):
    """``count`` convolutions, the first with ``stride`` and from ``inputs`` channels."""

    def __init__(
        self, count: int, inputs: int, outputs: int, kernel: Triple, stride: Triple, *, bias: bool
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvBlock(inputs, outputs, kernel, stride, bias=bias),
            *(ConvBlock(outputs, outputs, kernel, (1, 1, 1), bias=bias) for _ in range(1, count)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, [N, outputs, D, H, W] reduced by the stride."""
        return self.convs(x)  # type: ignore[no-any-return]


class _ResidualBlock(nn.Module):
    """Two convolutions and a skip that is pooled and projected where it has to be."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple, stride: Triple, *, bias: bool
    ) -> None:
        super().__init__()
        self.conv1 = ConvBlock(inputs, outputs, kernel, stride, bias=bias)
        self.conv2 = ConvBlock(outputs, outputs, kernel, (1, 1, 1), bias=bias, activates=False)
        skip: list[nn.Module] = []
        if any(step != 1 for step in stride):
            skip.append(nn.AvgPool3d(stride, stride))
        if inputs != outputs:
            pointwise = ConvBlock(
                inputs, outputs, (1, 1, 1), (1, 1, 1), bias=False, activates=False
            )
            skip.append(pointwise)
        self.skip = nn.Sequential(*skip)
        self.activation = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, [N, outputs, D, H, W] reduced by the stride."""
        return self.activation(  # type: ignore[no-any-return]
            self.conv2(self.conv1(x)) + self.skip(x)
        )


class ResidualBlocks(nn.Module):
    """``count`` residual blocks, the first with ``stride`` and from ``inputs`` channels."""

    def __init__(
        self, count: int, inputs: int, outputs: int, kernel: Triple, stride: Triple, *, bias: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _ResidualBlock(inputs, outputs, kernel, stride, bias=bias),
            *(
                _ResidualBlock(outputs, outputs, kernel, (1, 1, 1), bias=bias)
                for _ in range(1, count)
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, [N, outputs, D, H, W] reduced by the stride."""
        return self.blocks(x)  # type: ignore[no-any-return]
