"""Stored pixel values of single frames, in the reading child: read in place, or decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

from npc_edge.engine.study.parse import DEFLATED, UNDEFINED, Unreadable, inflater

MAX_ENCAPSULATED = 768 << 20
# JPEG processes pydicom has no permissively licensed decoder for: GDCM, inside SimpleITK, reads them.
_GDCM = frozenset(f"1.2.840.10008.1.2.4.{last}" for last in (50, 51, 57, 70))


@dataclass(frozen=True)
class Layout:
    """How an object's pixels are stored, as its record says."""

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    signed: bool
    offset: int
    length: int
    syntax: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame once decoded."""
        return self.rows * self.columns * self.allocated // 8


class FrameReader:
    """Reads the frames of one open source into a buffer."""

    def __init__(self, stream: IO[bytes], path: str | None, layout: Layout) -> None:
        self._stream, self._path, self._layout = stream, path, layout
        self._payload: bytes | None = None

    def read_into(self, frame: int, target: memoryview) -> None:
        """Frame `frame` (0-based), rows x columns of `allocated` bits, in the source's byte order."""
        layout = self._layout
        if not 0 <= frame < layout.frames or len(target) != layout.frame_bytes:
            raise Unreadable("a frame that is not there was asked for")
        if layout.length != UNDEFINED:
            self._native(frame, target)
        elif layout.syntax in _GDCM:
            self._gdcm(target)
        else:
            self._decoded(frame, target)

    def _native(self, frame: int, target: memoryview) -> None:
        layout = self._layout
        begin = layout.offset + frame * layout.frame_bytes
        if layout.length < (frame + 1) * layout.frame_bytes:
            raise Unreadable("its pixel data are cut short")
        if layout.syntax == DEFLATED:
            target[:] = self._inflated(begin, layout.frame_bytes)
            return
        self._stream.seek(begin)
        done = 0
        while done < len(target):
            size = self._stream.readinto(target[done:])  # type: ignore[attr-defined]
            if not size:
                raise Unreadable("its pixel data are cut short")
            done += size

    def _inflated(self, begin: int, size: int) -> bytes:
        """`size` bytes from `begin` of the inflated data set, never holding what lies before."""
        self._stream.seek(_dataset_offset(self._stream))
        read, position, out = inflater(self._stream), 0, bytearray()
        while position < begin + size:
            piece = read(1 << 16)
            if not piece or position > MAX_ENCAPSULATED:
                raise Unreadable("its pixel data are cut short")
            out += piece[max(0, begin - position) :]
            position += len(piece)
        return bytes(out[:size])

    def _decoded(self, frame: int, target: memoryview) -> None:
        """Through pydicom's decoders: RLE, JPEG-LS, JPEG 2000."""
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.uid import UID

        layout = self._layout
        if self._payload is None:
            self._stream.seek(layout.offset)
            self._payload = self._stream.read(MAX_ENCAPSULATED)
        try:
            decoder = get_decoder(UID(layout.syntax))
        except NotImplementedError as error:
            raise Unreadable("there is no decoder here for its transfer syntax") from error
        options: dict[str, Any] = {
            "rows": layout.rows,
            "columns": layout.columns,
            "number_of_frames": layout.frames,
            "samples_per_pixel": 1,
            "photometric_interpretation": "MONOCHROME2",
            "bits_allocated": layout.allocated,
            "bits_stored": layout.stored,
            "pixel_representation": int(layout.signed),
            "pixel_keyword": "PixelData",
        }
        array, _ = decoder.as_array(self._payload, index=frame, raw=True, **options)
        raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        if len(raw) != len(target):
            raise Unreadable("its compressed pixel data do not have the size its header says")
        target[:] = raw

    def _gdcm(self, target: memoryview) -> None:
        """Through SimpleITK's GDCM, single frames only; its rescaling is undone."""
        if self._path is None or self._layout.frames != 1:
            raise Unreadable("JPEG can only be read from single-frame files outside a zip")
        import numpy as np
        import SimpleITK

        itk: Any = SimpleITK  # its functions carry no types
        layout = self._layout
        itk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        reader = itk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(self._path)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise Unreadable("its JPEG pixel data cannot be decoded") from error

        def tag(name: str, default: float) -> float:
            return float(image.GetMetaData(name)) if image.HasMetaDataKey(name) else default

        real = itk.GetArrayFromImage(image)[0].astype(np.float64)
        stored = np.rint((real - tag("0028|1052", 0.0)) / (tag("0028|1053", 1.0) or 1.0))
        if stored.shape != (layout.rows, layout.columns):
            raise Unreadable("its compressed pixel data do not have the size its header says")
        target[:] = stored.astype(f"<{'i' if layout.signed else 'u'}{layout.allocated // 8}").tobytes()


def _dataset_offset(stream: IO[bytes]) -> int:
    """Where the deflated data set begins: after the file meta information."""
    from npc_edge.engine.study.parse import Window, file_meta

    stream.seek(0)
    return file_meta(Window(stream.read), 132)[1]
