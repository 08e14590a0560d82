"""The climate of long forecasts, against that of a truth run and what one run differs from another by chance."""
