from biomassters.reporting.limits import standing_limits


def test_simulated_and_real_data_have_limits_of_their_own():
    simulated, real = standing_limits(True), standing_limits(False)
    assert any("simulated" in limit for limit in simulated)
    assert not any("simulated" in limit for limit in real)
    assert any("no location" in limit for limit in real)


def test_weights_chosen_by_the_chips_that_score_them_flatter():
    (chosen,) = set(standing_limits(False, (30.0, 31.5))) - set(standing_limits(False))
    assert "up to 1.5 Mg/ha" in chosen
    assert "intervals, calibrated on the same chips" in chosen
