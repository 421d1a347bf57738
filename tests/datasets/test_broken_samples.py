"""What is broken is replaced and named; labels outside the classes stop."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmpvg.datasets.broken_samples import REPLACED, LabelRangeError, ReplaceBroken, check_sample
from mmpvg.engine.runner.batches import BatchLoader, SeededBatch


class Data(Dataset):
    def __init__(self, broken=(), length=20):
        self.broken, self.length = set(broken), length

    def __len__(self):
        return self.length

    def get_data_info(self, index):
        return dict(img_path=f'{index}.jpg')

    def __getitem__(self, index):
        if index in self.broken:
            raise OSError(f'disk fell off at {index}')
        return dict(inputs=torch.tensor(index), data_samples=BaseDataElement())


def test_whole_samples_are_left_alone():
    sample = ReplaceBroken(Data())(3)
    assert sample['inputs'] == 3 and REPLACED not in sample['data_samples'].metainfo


def test_a_broken_one_is_replaced_by_the_same_one_each_time():
    broken = range(0, 20, 2)
    data = Data(broken)
    BatchLoader.of(data).load_one = ReplaceBroken(data)
    batch = SeededBatch([4, 5, 6])
    batch.seed = 11
    first, again = data.__getitems__(batch), data.__getitems__(batch)
    indices = [int(sample['inputs']) for sample in first]
    assert indices == [int(sample['inputs']) for sample in again]
    assert not set(indices) & set(broken) and indices[1] == 5
    names = [name for name, _ in first[0]['data_samples'].metainfo[REPLACED]]
    assert names[0] == '4.jpg'
    assert first[0]['data_samples'].metainfo[REPLACED][0][1] == 'OSError: disk fell off at 4'
    batch.seed = 12
    assert [int(sample['inputs']) for sample in data.__getitems__(batch)] != indices


def test_data_broken_as_a_whole_stops_with_the_cause():
    np.random.seed(0)
    data = Data(range(20))
    with pytest.raises(RuntimeError, match=r'10 samples in a row.*\d+\.jpg: OSError: disk') as end:
        ReplaceBroken(data)(0)
    assert isinstance(end.value.__cause__, OSError)


def packed(**fields):
    data = BaseDataElement(metainfo=dict(img_path='a.jpg'))
    for name, value in fields.items():
        setattr(data, name, value)
    return dict(data_samples=data)


def element(**fields):
    return BaseDataElement(**fields)


CLASSES = ('cat', 'dog', 'bird')
FINE = [
    packed(gt_sem_seg=element(data=torch.tensor([[[0, 1], [2, 255]]]))),
    packed(gt_instances=element(labels=torch.tensor([0, 2]))),
    packed(gt_instances=element(labels=torch.tensor([], dtype=torch.long))),
    packed(gt_label=torch.tensor([2])),
    packed(),
    dict(inputs=1),
]
WRONG = [
    packed(gt_sem_seg=element(data=torch.tensor([[[0, 1], [3, 254]]]))),
    packed(gt_instances=element(labels=torch.tensor([0, 3, 254]))),
    packed(gt_label=torch.tensor([3, 254])),
]


@pytest.mark.parametrize('sample', FINE)
def test_labels_of_the_classes(sample):
    check_sample(sample, CLASSES)


@pytest.mark.parametrize('sample', WRONG)
def test_labels_outside_the_classes(sample):
    with pytest.raises(LabelRangeError, match=r'a.jpg has the labels \[3, 254\], but .* 3 classes'):
        check_sample(sample, CLASSES)
    check_sample(sample, None)
