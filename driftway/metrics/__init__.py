"""Scores of forecasts and ensembles, pure functions of tensors that average space and keep the other axes; and the
distances of two laws, from samples in rows."""

from driftway.metrics.distances import (
    Distance,
    classifier_test,
    mmd,
    mmd_test,
    principal_components,
    sliced_wasserstein,
)
from driftway.metrics.ensembles import (
    EnsembleMetric,
    crps,
    energy_score,
    ensemble_mean_vrmse,
    ensemble_squared_error,
    ensemble_variance,
    rank_histogram,
    skill,
    spread,
    spread_skill_ratio,
)
from driftway.metrics.errors import (
    CorrelationTime,
    Metric,
    bias,
    correlation,
    correlation_time,
    mae,
    nrmse,
    rmse,
    spatial_mean,
    vrmse,
)
from driftway.metrics.intervals import Interval, interval, resampled_means
from driftway.metrics.spectra import (
    SpectralMetric,
    Spectrum,
    isotropic_spectrum,
    log_bands,
    nyquist,
    spectral_log_error,
    spectral_rmse,
    spectral_rmse_paper,
)

METRICS: dict[str, Metric] = {
    "rmse": rmse,
    "mae": mae,
    "bias": bias,
    "nrmse": nrmse,
    "vrmse": vrmse,
    "correlation": correlation,
}
ENSEMBLE_METRICS: dict[str, EnsembleMetric] = {
    "crps": crps,
    "energy_score": energy_score,
    "ensemble_mean_vrmse": ensemble_mean_vrmse,
    "ensemble_squared_error": ensemble_squared_error,
    "ensemble_variance": ensemble_variance,
    "skill": skill,
    "spread": spread,
}
SPECTRAL_METRICS: dict[str, SpectralMetric] = {
    "spectral_rmse": spectral_rmse,
    "spectral_rmse_paper": spectral_rmse_paper,
    "spectral_log_error": spectral_log_error,
}

__all__ = [
    "ENSEMBLE_METRICS",
    "METRICS",
    "SPECTRAL_METRICS",
    "CorrelationTime",
    "Distance",
    "EnsembleMetric",
    "Interval",
    "Metric",
    "SpectralMetric",
    "Spectrum",
    "bias",
    "classifier_test",
    "correlation",
    "correlation_time",
    "crps",
    "energy_score",
    "ensemble_mean_vrmse",
    "ensemble_squared_error",
    "ensemble_variance",
    "interval",
    "isotropic_spectrum",
    "log_bands",
    "mae",
    "mmd",
    "mmd_test",
    "nrmse",
    "nyquist",
    "principal_components",
    "rank_histogram",
    "resampled_means",
    "rmse",
    "skill",
    "sliced_wasserstein",
    "spatial_mean",
    "spectral_log_error",
    "spectral_rmse",
    "spectral_rmse_paper",
    "spread",
    "spread_skill_ratio",
    "vrmse",
]
