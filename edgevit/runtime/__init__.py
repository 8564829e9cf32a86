"""The on-device part: frames in, labels out, with numpy and OpenCV alone."""
