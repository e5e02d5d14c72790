from biomassters.reporting.limits import standing_limits


def test_simulated_and_real_data_have_limits_of_their_own():
    simulated, real = standing_limits(True, False), standing_limits(False, False)
    assert any("simulated" in limit for limit in simulated)
    assert not any("simulated" in limit for limit in real)
    assert any("no location" in limit for limit in real)
    assert len(standing_limits(False, True)) == len(real) + 1
