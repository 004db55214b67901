from pocketface.benchmarks import doctor
from pocketface.benchmarks.machine import this_machine


def test_the_cpu_and_its_features_are_those_of_this_machine() -> None:
    machine = this_machine()
    found = {finding.subject: str(finding.values["found"]) for finding in doctor.CHECK.run("", lambda text: None)}
    assert machine.cpu in found["CPU"]
    assert str(machine.cores) in found["CPU"]
    assert found["CPU features"].split() == list(machine.features or ("unknown",))
