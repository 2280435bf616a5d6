//! Fuzz targets of the Overlay libraries.
