//! Counter-based random numbers: a draw depends on its key and its counter only, never on what was drawn before.
//!
//! # Idea
//!
//! A generator with a state gives numbers in sequence, and who gets which depends on threads, workers and batch size.
//! Here a block of four 64-bit words is a function of a counter and a key, so that every sample has numbers of its own:
//!
//! | word | holds |
//! |---|---|
//! | counter 0 | number of the block, and in its upper 32 bits the number of the fork |
//! | counter 1 | place of the operation in the list; field, from bit 32 on |
//! | counter 2 | row, or what else stands for the sample |
//! | counter 3 | epoch |
//! | key 0 | seed |
//! | key 1 | 0 |
//!
//! # Where it comes from
//!
//! The function is Philox4x64-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011), the
//! one that `numpy.random.Philox` implements; a test compares the two. For a fixed key it is a bijection of counters,
//! so no two blocks of a seed are equal.
//!
//! # Cost
//!
//! Ten rounds, each with two products of 64 by 64 bits, for four words; no memory beside the block.

/// `SplitMix64`'s finaliser (Steele, Lea, Flood, 2014): a fast bijection that scatters its input.
#[must_use]
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The upper 53 bits as a number in `[0, 1)`.
#[must_use]
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

fn mul(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    ((product >> 64) as u64, product as u64)
}

/// Ten rounds of Philox4x64.
#[must_use]
pub fn philox(mut counter: [u64; 4], mut key: [u64; 2]) -> [u64; 4] {
    for round in 0..10 {
        if round > 0 {
            key[0] = key[0].wrapping_add(0x9E37_79B9_7F4A_7C15);
            key[1] = key[1].wrapping_add(0xBB67_AE85_84CA_A73B);
        }
        let (high0, low0) = mul(0xD2E7_470E_E14C_6C93, counter[0]);
        let (high1, low1) = mul(0xCA5A_8263_9512_1157, counter[2]);
        counter = [
            high1 ^ counter[1] ^ key[0],
            low1,
            high0 ^ counter[3] ^ key[1],
            low0,
        ];
    }
    counter
}

/// Whose draws these are: everything that a sample's randomness may depend on, apart from the operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The loader's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The row of the dataset, or another number that tells the samples of an epoch apart.
    pub row: u64,
    /// The field's place in the schema.
    pub field: u64,
}

/// The draws of one operation on one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    key: Key,
    operation: u64,
    block: u64,
    forks: u64,
    left: [u64; 4],
    used: usize,
}

impl Draws {
    /// The draws of the operation at this place in the field's list.
    #[must_use]
    pub fn new(key: Key, operation: usize) -> Self {
        Self {
            key,
            operation: operation as u64,
            block: 0,
            forks: 0,
            left: [0; 4],
            used: 4,
        }
    }

    /// A stream of its own, for something that takes many draws later. It shares no draw with this stream or its other
    /// forks. A fork must not be forked itself: its forks would repeat those of this stream.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        self.forks += 1;
        Self {
            block: self.forks << 32,
            used: 4,
            ..self.clone()
        }
    }

    fn next(&mut self) -> u64 {
        if self.used == 4 {
            let counter = [
                self.block,
                self.operation | self.key.field << 32,
                self.key.row,
                self.key.epoch,
            ];
            self.left = philox(counter, [self.key.seed, 0]);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.left[self.used - 1]
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn unit(&mut self) -> f64 {
        unit(self.next())
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f32 {
        let bits = self.next();
        // The upper half from above 0 to 1, the lower half from 0 to below 1.
        let [radius, angle] =
            [(bits >> 32) + 1, bits & 0xFFFF_FFFF].map(|part| part as f32 * (-32_f32).exp2());
        (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
    }

    /// Uniform in `0..bound`, by Lemire's multiplication. The probability of each number is off by less than 2^-32.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from((self.next() >> 32) as u32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.Philox(counter=[0, 2, 3, 4], key=[5, 6]).random_raw(4)`; `NumPy` counts up before it draws.
    #[test]
    fn agrees_with_numpy() {
        let ours = philox([1, 2, 3, 4], [5, 6]);
        assert_eq!(
            ours,
            [
                11_789_110_016_301_065_044,
                12_460_072_761_081_090_454,
                11_575_064_416_179_582_204,
                635_235_873_073_864_927,
            ]
        );
    }

    #[test]
    fn draws_depend_on_each_part_of_the_key() {
        let key = Key {
            seed: 1,
            epoch: 2,
            row: 3,
            field: 4,
        };
        let first = |key, operation| Draws::new(key, operation).next();
        let base = first(key, 0);
        assert_eq!(base, first(key, 0));
        for other in [
            first(Key { seed: 9, ..key }, 0),
            first(Key { epoch: 9, ..key }, 0),
            first(Key { row: 9, ..key }, 0),
            first(Key { field: 9, ..key }, 0),
            first(key, 9),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn normals_are_normal_and_forks_differ() {
        let key = Key {
            seed: 1,
            epoch: 0,
            row: 0,
            field: 0,
        };
        let mut draws = Draws::new(key, 0);
        let sample = |mut draws: Draws| (0..10_000).map(|_| draws.normal()).collect::<Vec<_>>();
        let (first, second) = (sample(draws.fork()), sample(draws.fork()));
        assert_ne!(first, second);
        assert_ne!(first, sample(draws));
        let moment = |power| first.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / 1e4;
        for (power, expected) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)] {
            assert!(
                (moment(power) - expected).abs() < 0.3,
                "moment {power}: {}",
                moment(power)
            );
        }
    }

    #[test]
    fn stays_in_range() {
        let key = Key {
            seed: 0,
            epoch: 0,
            row: 0,
            field: 0,
        };
        let mut draws = Draws::new(key, 0);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&draws.unit()));
            assert!((2.0..3.0).contains(&draws.uniform(2.0, 3.0)));
            seen[draws.below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
