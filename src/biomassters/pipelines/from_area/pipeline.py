"""Area + year → images out of a catalogue → map: imagery, and mapping of its cube."""

from kedro.pipeline import Pipeline

from biomassters.pipelines import imagery, mapping


def create_pipeline() -> Pipeline:
    """Mapping takes the cube that imagery makes in place of ``region_images``."""
    of_cube = Pipeline(mapping.create_pipeline(), inputs={"region_images": "imagery_cube"})
    return imagery.create_pipeline() + of_cube
