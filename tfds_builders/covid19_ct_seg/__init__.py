"""COVID-19-CT-Seg: chest CTs of patients with COVID-19, lungs and infection annotated."""
