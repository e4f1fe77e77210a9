//! The built-in catalogue of GCP, AWS and Azure region names and where they are.
//!
//! Good to about a hundredth of a degree, and to the city where the operator does not tell more: enough to seed the
//! order of regions until round trips are measured.

use crate::region::Location;

/// Where the region of that name is.
pub fn location(name: &str) -> Option<Location> {
    let index = REGIONS.binary_search_by(|(known, ..)| (*known).cmp(name)).ok()?;
    let (_, latitude, longitude) = REGIONS[index];
    Some(Location { latitude, longitude })
}

/// Every name of the catalogue, sorted.
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    REGIONS.iter().map(|(name, ..)| *name)
}

/// Name, latitude, longitude; sorted by name, which `location` relies on.
#[rustfmt::skip]
static REGIONS: &[(&str, f64, f64)] = &[
    ("af-south-1", -33.92, 18.42),
    ("africa-south1", -26.20, 28.05),
    ("ap-east-1", 22.32, 114.17),
    ("ap-east-2", 25.03, 121.57),
    ("ap-northeast-1", 35.68, 139.69),
    ("ap-northeast-2", 37.57, 126.98),
    ("ap-northeast-3", 34.69, 135.50),
    ("ap-south-1", 19.08, 72.88),
    ("ap-south-2", 17.39, 78.49),
    ("ap-southeast-1", 1.35, 103.82),
    ("ap-southeast-2", -33.87, 151.21),
    ("ap-southeast-3", -6.21, 106.85),
    ("ap-southeast-4", -37.81, 144.96),
    ("ap-southeast-5", 3.15, 101.69),
    ("ap-southeast-6", -36.85, 174.76),
    ("ap-southeast-7", 13.76, 100.50),
    ("asia-east1", 24.05, 120.52),
    ("asia-east2", 22.32, 114.17),
    ("asia-northeast1", 35.68, 139.69),
    ("asia-northeast2", 34.69, 135.50),
    ("asia-northeast3", 37.57, 126.98),
    ("asia-south1", 19.08, 72.88),
    ("asia-south2", 28.61, 77.21),
    ("asia-southeast1", 1.35, 103.82),
    ("asia-southeast2", -6.21, 106.85),
    ("asia-southeast3", 13.76, 100.50),
    ("australia-southeast1", -33.87, 151.21),
    ("australia-southeast2", -37.81, 144.96),
    ("australiacentral", -35.31, 149.12),
    ("australiacentral2", -35.31, 149.12),
    ("australiaeast", -33.87, 151.21),
    ("australiasoutheast", -37.81, 144.96),
    ("austriaeast", 48.21, 16.37),
    ("belgiumcentral", 50.85, 4.35),
    ("brazilsouth", -23.55, -46.63),
    ("brazilsoutheast", -22.91, -43.17),
    ("ca-central-1", 45.50, -73.57),
    ("ca-west-1", 51.05, -114.07),
    ("canadacentral", 43.65, -79.38),
    ("canadaeast", 46.82, -71.22),
    ("centralindia", 18.58, 73.92),
    ("centralus", 41.59, -93.62),
    ("chilecentral", -33.45, -70.67),
    ("chinaeast", 31.23, 121.47),
    ("chinaeast2", 31.23, 121.47),
    ("chinanorth", 39.90, 116.41),
    ("chinanorth2", 39.90, 116.41),
    ("chinanorth3", 38.04, 114.51),
    ("cn-north-1", 39.90, 116.41),
    ("cn-northwest-1", 37.50, 105.19),
    ("denmarkeast", 55.68, 12.57),
    ("eastasia", 22.32, 114.17),
    ("eastus", 37.37, -79.82),
    ("eastus2", 36.67, -78.39),
    ("eu-central-1", 50.11, 8.68),
    ("eu-central-2", 47.38, 8.54),
    ("eu-north-1", 59.33, 18.07),
    ("eu-south-1", 45.46, 9.19),
    ("eu-south-2", 41.65, -0.88),
    ("eu-west-1", 53.35, -6.26),
    ("eu-west-2", 51.51, -0.13),
    ("eu-west-3", 48.86, 2.35),
    ("europe-central2", 52.23, 21.01),
    ("europe-north1", 60.57, 27.20),
    ("europe-north2", 59.33, 18.07),
    ("europe-southwest1", 40.42, -3.70),
    ("europe-west1", 50.45, 3.82),
    ("europe-west10", 52.52, 13.40),
    ("europe-west12", 45.07, 7.69),
    ("europe-west2", 51.51, -0.13),
    ("europe-west3", 50.11, 8.68),
    ("europe-west4", 53.43, 6.83),
    ("europe-west6", 47.38, 8.54),
    ("europe-west8", 45.46, 9.19),
    ("europe-west9", 48.86, 2.35),
    ("eusc-de-east-1", 52.41, 12.53),
    ("francecentral", 48.86, 2.35),
    ("francesouth", 43.30, 5.37),
    ("germanynorth", 52.52, 13.40),
    ("germanywestcentral", 50.11, 8.68),
    ("il-central-1", 32.09, 34.78),
    ("indonesiacentral", -6.21, 106.85),
    ("israelcentral", 32.09, 34.78),
    ("italynorth", 45.46, 9.19),
    ("japaneast", 35.68, 139.69),
    ("japanwest", 34.69, 135.50),
    ("jioindiacentral", 21.15, 79.09),
    ("jioindiawest", 22.47, 70.06),
    ("koreacentral", 37.57, 126.98),
    ("koreasouth", 35.18, 129.08),
    ("malaysiawest", 3.15, 101.69),
    ("me-central-1", 25.20, 55.27),
    ("me-central1", 25.29, 51.53),
    ("me-central2", 26.43, 50.10),
    ("me-south-1", 26.07, 50.56),
    ("me-west1", 32.09, 34.78),
    ("mexicocentral", 20.59, -100.39),
    ("mx-central-1", 20.59, -100.39),
    ("newzealandnorth", -36.85, 174.76),
    ("northamerica-northeast1", 45.50, -73.57),
    ("northamerica-northeast2", 43.65, -79.38),
    ("northamerica-south1", 20.59, -100.39),
    ("northcentralus", 41.88, -87.63),
    ("northeurope", 53.35, -6.26),
    ("norwayeast", 59.91, 10.75),
    ("norwaywest", 58.97, 5.73),
    ("polandcentral", 52.23, 21.01),
    ("qatarcentral", 25.29, 51.53),
    ("sa-east-1", -23.55, -46.63),
    ("southafricanorth", -26.20, 28.05),
    ("southafricawest", -33.92, 18.42),
    ("southamerica-east1", -23.53, -46.79),
    ("southamerica-west1", -33.45, -70.67),
    ("southcentralus", 29.42, -98.49),
    ("southeastasia", 1.35, 103.82),
    ("southindia", 13.08, 80.27),
    ("spaincentral", 40.42, -3.70),
    ("swedencentral", 60.67, 17.14),
    ("swedensouth", 55.60, 13.00),
    ("switzerlandnorth", 47.38, 8.54),
    ("switzerlandwest", 46.20, 6.14),
    ("uaecentral", 24.45, 54.38),
    ("uaenorth", 25.20, 55.27),
    ("uksouth", 51.51, -0.13),
    ("ukwest", 51.48, -3.18),
    ("us-central1", 41.26, -95.86),
    ("us-east-1", 39.04, -77.49),
    ("us-east-2", 39.96, -83.00),
    ("us-east1", 33.20, -80.01),
    ("us-east4", 39.04, -77.49),
    ("us-east5", 39.96, -83.00),
    ("us-gov-east-1", 39.96, -83.00),
    ("us-gov-west-1", 45.84, -119.70),
    ("us-south1", 32.78, -96.80),
    ("us-west-1", 37.35, -121.96),
    ("us-west-2", 45.84, -119.70),
    ("us-west1", 45.59, -121.18),
    ("us-west2", 34.05, -118.24),
    ("us-west3", 40.76, -111.89),
    ("us-west4", 36.17, -115.14),
    ("usgovarizona", 33.45, -112.07),
    ("usgovtexas", 29.42, -98.49),
    ("usgovvirginia", 37.37, -79.82),
    ("westcentralus", 41.14, -104.82),
    ("westeurope", 52.37, 4.90),
    ("westindia", 19.08, 72.88),
    ("westus", 37.78, -122.42),
    ("westus2", 47.23, -119.85),
    ("westus3", 33.45, -112.07),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RegionName;

    #[test]
    fn every_entry_is_found_by_its_name_and_is_a_place() {
        assert!(names().is_sorted_by(|a, b| a < b), "the table is sorted, without duplicates");
        for name in names() {
            assert!(name.parse::<RegionName>().is_ok(), "{name}");
            let place = location(name).expect("listed");
            assert!(place.latitude.abs() <= 90.0 && place.longitude.abs() <= 180.0, "{name}");
        }
    }

    #[test]
    fn knows_the_default_regions_and_no_others() {
        for name in ["us-east1", "europe-west1", "asia-northeast1", "eu-west-1", "westeurope"] {
            assert!(location(name).is_some(), "{name}");
        }
        assert_eq!(location("europe-wst1"), None);
    }
}
