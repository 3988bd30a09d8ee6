"""Data: Shapes, CamVid, and a folder of your own."""
