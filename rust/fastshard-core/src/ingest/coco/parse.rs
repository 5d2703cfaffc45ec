//! The JSON, streamed into flat columns.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::place::Place;
use super::segmentation;
use super::value::{Area, Corners, Crowd, Inside, Keypoints, Side};

/// All that is kept of a file.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) images: Images,
    pub(super) annotations: Annotations,
    pub(super) categories: Categories,
}

#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) id: Vec<i64>,
    pub(super) name: Vec<String>,
    /// 0 where none is given.
    pub(super) width: Vec<u32>,
    pub(super) height: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Annotations {
    pub(super) id: Vec<i64>,
    pub(super) image: Vec<i64>,
    pub(super) category: Vec<Option<i64>>,
    pub(super) corners: Vec<Option<Corners>>,
    pub(super) area: Vec<Option<Area>>,
    pub(super) crowd: Vec<Crowd>,
    /// JSON; empty for none.
    pub(super) segmentation: Runs<String>,
    /// JSON; empty for none.
    pub(super) caption: Runs<String>,
    /// Empty for none.
    pub(super) keypoints: Runs<Vec<f32>>,
    /// Numbers of each annotation that has keypoints.
    pub(super) keypoints_width: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Categories {
    pub(super) id: Vec<i64>,
    pub(super) name: Vec<String>,
    pub(super) described: Vec<Value>,
}

/// Texts, or lists of numbers, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Runs<T> {
    pub(super) all: T,
    ends: Vec<usize>,
}

impl<T> Runs<T> {
    pub(super) fn range(&self, at: usize) -> std::ops::Range<usize> {
        at.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[at]
    }
}

impl Runs<String> {
    pub(super) fn get(&self, at: usize) -> &str {
        &self.all[self.range(at)]
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Images,
    Annotations,
    Categories,
    Id,
    FileName,
    Width,
    Height,
    ImageId,
    CategoryId,
    Bbox,
    Area,
    Iscrowd,
    Segmentation,
    SegmentsInfo,
    Keypoints,
    Caption,
    Name,
    Supercategory,
    Skeleton,
    #[serde(other)]
    Other,
}

/// The whole file.
pub(super) struct Document<'a>(pub(super) &'a mut Parsed, pub(super) &'a mut Place);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object with images, annotations and categories")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(parsed, place) = self;
        let (mut images, mut annotations, mut categories) = (false, false, false);
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Images => {
                    first("images", &mut images)?;
                    map.next_value_seed(Section(&mut parsed.images, place))?;
                }
                Key::Annotations => {
                    first("annotations", &mut annotations)?;
                    map.next_value_seed(Section(&mut parsed.annotations, place))?;
                }
                Key::Categories => {
                    first("categories", &mut categories)?;
                    map.next_value_seed(Section(&mut parsed.categories, place))?;
                }
                _ => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        if images {
            Ok(())
        } else {
            Err(A::Error::custom("no \"images\": expected COCO's format"))
        }
    }
}

fn first<E: serde::de::Error>(name: &str, seen: &mut bool) -> Result<(), E> {
    if std::mem::replace(seen, true) {
        Err(E::custom(format!("{name:?} stands there twice")))
    } else {
        Ok(())
    }
}

/// What one of the file's lists holds.
trait Entries {
    const ENTRY: &'static str;

    fn read<'de, A: MapAccess<'de>>(&mut self, entry: Entry<'_, 'de, A>) -> Result<(), A::Error>;
}

struct Section<'a, T>(&'a mut T, &'a mut Place);

impl<'de, T: Entries> DeserializeSeed<'de> for Section<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Entries> Visitor<'de> for Section<'_, T> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list of {} entries", T::ENTRY)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self(entries, place) = self;
        for number in 1.. {
            *place = Place::entry(T::ENTRY, number);
            if list.next_element_seed(One(entries, place))?.is_none() {
                break;
            }
        }
        *place = Place::default();
        Ok(())
    }
}

struct One<'a, T>(&'a mut T, &'a mut Place);

impl<'de, T: Entries> DeserializeSeed<'de> for One<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Entries> Visitor<'de> for One<'_, T> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.read(Entry {
            map,
            place: self.1,
            lifetime: PhantomData,
        })
    }
}

/// An entry being read.
struct Entry<'a, 'de, A> {
    map: A,
    place: &'a mut Place,
    lifetime: PhantomData<&'de ()>,
}

impl<'de, A: MapAccess<'de>> Entry<'_, 'de, A> {
    fn key(&mut self) -> Result<Option<Key>, A::Error> {
        self.place.field = "";
        self.map.next_key()
    }

    /// The value of a field that stands once in an entry.
    fn value<T: Deserialize<'de>>(
        &mut self,
        field: &'static str,
        slot: &mut Option<T>,
    ) -> Result<(), A::Error> {
        self.place.field = field;
        if slot.replace(self.map.next_value()?).is_some() {
            return Err(A::Error::custom("stands there twice"));
        }
        Ok(())
    }

    fn id(&mut self, slot: &mut Option<i64>) -> Result<(), A::Error> {
        self.value("id", slot)?;
        self.place.id = *slot;
        Ok(())
    }

    fn skip(&mut self) -> Result<(), A::Error> {
        self.map.next_value::<IgnoredAny>().map(|_| ())
    }

    /// A field that every entry has.
    fn given<T>(&mut self, field: &'static str, value: Option<T>) -> Result<T, A::Error> {
        self.place.field = field;
        value.ok_or_else(|| A::Error::custom("is missing"))
    }
}

impl Entries for Images {
    const ENTRY: &'static str = "image";

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        mut entry: Entry<'_, 'de, A>,
    ) -> Result<(), A::Error> {
        let (mut id, mut name) = (None, None);
        let (mut width, mut height) = (None, None);
        while let Some(key) = entry.key()? {
            match key {
                Key::Id => entry.id(&mut id)?,
                Key::FileName => entry.value("file_name", &mut name)?,
                Key::Width => entry.value("width", &mut width)?,
                Key::Height => entry.value("height", &mut height)?,
                _ => entry.skip()?,
            }
        }
        self.id.push(entry.given("id", id)?);
        let Inside(name) = entry.given("file_name", name)?;
        self.name.push(name);
        let side = |found: Option<Side>| found.map_or(0, |side| side.0);
        self.width.push(side(width));
        self.height.push(side(height));
        Ok(())
    }
}

#[derive(Default)]
struct Annotation {
    id: Option<i64>,
    image: Option<i64>,
    category: Option<i64>,
    corners: Option<Corners>,
    area: Option<Area>,
    crowd: Option<Crowd>,
    segmentation: Option<Box<RawValue>>,
    caption: Option<String>,
    keypoints: Option<Keypoints>,
}

impl Entries for Annotations {
    const ENTRY: &'static str = "annotation";

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        mut entry: Entry<'_, 'de, A>,
    ) -> Result<(), A::Error> {
        let mut found = Annotation::default();
        while let Some(key) = entry.key()? {
            match key {
                Key::Id => entry.id(&mut found.id)?,
                Key::ImageId => entry.value("image_id", &mut found.image)?,
                Key::CategoryId => entry.value("category_id", &mut found.category)?,
                Key::Bbox => entry.value("bbox", &mut found.corners)?,
                Key::Area => entry.value("area", &mut found.area)?,
                Key::Iscrowd => entry.value("iscrowd", &mut found.crowd)?,
                Key::Segmentation => entry.value("segmentation", &mut found.segmentation)?,
                Key::Keypoints => entry.value("keypoints", &mut found.keypoints)?,
                Key::Caption => entry.value("caption", &mut found.caption)?,
                Key::SegmentsInfo => return Err(A::Error::custom(PANOPTIC)),
                _ => entry.skip()?,
            }
        }
        self.push(found, &mut entry)
    }
}

const PANOPTIC: &str =
    "has segments_info: of COCO's formats, instances, keypoints and captions are read";

impl Annotations {
    fn push<'de, A: MapAccess<'de>>(
        &mut self,
        found: Annotation,
        entry: &mut Entry<'_, 'de, A>,
    ) -> Result<(), A::Error> {
        self.id.push(entry.given("id", found.id)?);
        self.image.push(entry.given("image_id", found.image)?);
        self.category.push(found.category);
        self.corners.push(found.corners);
        self.area.push(found.area);
        self.crowd.push(found.crowd.unwrap_or_default());
        entry.place.field = "segmentation";
        if let Some(json) = found.segmentation.filter(|json| json.get() != "null") {
            segmentation::check(json.get()).map_err(A::Error::custom)?;
            segmentation::append_compact(json.get(), &mut self.segmentation.all);
        }
        self.segmentation.ends.push(self.segmentation.all.len());
        if let Some(caption) = found.caption {
            // As JSON, so that an empty one is one, too.
            self.caption.all += &Value::String(caption).to_string();
        }
        self.caption.ends.push(self.caption.all.len());
        entry.place.field = "keypoints";
        self.push_keypoints(found.keypoints.unwrap_or_default())
            .map_err(A::Error::custom)
    }

    fn push_keypoints(&mut self, Keypoints(numbers): Keypoints) -> Result<(), String> {
        if !numbers.is_empty() {
            let width = *self.keypoints_width.get_or_insert(numbers.len());
            if numbers.len() != width {
                let (count, width) = (numbers.len() / 3, width / 3);
                return Err(format!("{count} keypoints, expected {width}, as before"));
            }
        }
        self.keypoints.all.extend(numbers);
        self.keypoints.ends.push(self.keypoints.all.len());
        Ok(())
    }
}

impl Entries for Categories {
    const ENTRY: &'static str = "category";

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        mut entry: Entry<'_, 'de, A>,
    ) -> Result<(), A::Error> {
        let (mut id, mut name, mut above) = (None, None, None);
        let (mut keypoints, mut skeleton) = (None, None);
        while let Some(key) = entry.key()? {
            match key {
                Key::Id => entry.id(&mut id)?,
                Key::Name => entry.value("name", &mut name)?,
                Key::Supercategory => entry.value("supercategory", &mut above)?,
                Key::Keypoints => entry.value("keypoints", &mut keypoints)?,
                Key::Skeleton => entry.value("skeleton", &mut skeleton)?,
                _ => entry.skip()?,
            }
        }
        let (id, name) = (entry.given("id", id)?, entry.given("name", name)?);
        let mut described = Map::from_iter([("id".into(), id.into())]);
        described.insert("name".into(), Value::String(String::clone(&name)));
        let kept: [(&str, Option<Value>); 3] = [
            (
                "supercategory",
                above.map(|Supercategory(above)| above.into()),
            ),
            (
                "keypoints",
                keypoints.map(|names: Vec<String>| names.into()),
            ),
            (
                "skeleton",
                skeleton.map(|bones: Vec<[u32; 2]>| serde_json::json!(bones)),
            ),
        ];
        for (key, value) in kept {
            if let Some(value) = value {
                described.insert(key.into(), value);
            }
        }
        self.id.push(id);
        self.name.push(name);
        self.described.push(described.into());
        Ok(())
    }
}

/// A text, or null.
#[derive(Deserialize)]
struct Supercategory(Option<String>);
