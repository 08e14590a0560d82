"""What a flow does as a whole: energies, fluxes, dissipation and profiles, of any data that have the fields."""
