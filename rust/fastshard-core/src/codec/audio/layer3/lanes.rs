//! Eight numbers of single precision, for loops that compute eight results at once.
//!
//! An operation is a loop over an array. In functions compiled for AVX2 the compiler can make it one instruction, and
//! in others, two of four lanes. So the same code is both the vector code and its plain twin. Multiplication and
//! addition round separately, in a fixed order, and give the same bits in both.

use std::ops::{Add, Mul, Sub};

pub(super) const LANES: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes([f32; LANES]);

impl Lanes {
    pub(super) const ZERO: Self = Self([0.0; LANES]);

    /// Eight numbers of an array, from index `at` on; zeros if there are fewer.
    #[inline(always)]
    pub(super) fn load<const N: usize>(from: &[f32; N], at: usize) -> Self {
        Self(from[at..].first_chunk().copied().unwrap_or_default())
    }

    #[inline(always)]
    pub(super) fn store<const N: usize>(self, to: &mut [f32; N], at: usize) {
        to[at..at + LANES].copy_from_slice(&self.0);
    }

    /// The same number in each lane.
    #[inline(always)]
    pub(super) fn all(value: f32) -> Self {
        Self([value; LANES])
    }
}

macro_rules! each {
    ($operation:ident, $name:ident, $sign:tt) => {
        impl $operation for Lanes {
            type Output = Self;

            #[inline(always)]
            fn $name(mut self, other: Self) -> Self {
                for at in 0..LANES {
                    self.0[at] $sign other.0[at];
                }
                self
            }
        }
    };
}

each!(Add, add, +=);
each!(Sub, sub, -=);
each!(Mul, mul, *=);
