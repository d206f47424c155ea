"""From DICOM bytes to Hounsfield units: header, selection, geometry, decoding, volume.

A room of pydicom, numpy and scipy.ndimage, shared by the node and by training, without torch.
`header` reads the facts of one instance at the door; `volume` turns the instances of a series into
one stack of slices, or says why not. Nothing here writes, logs or talks to a database.
"""
