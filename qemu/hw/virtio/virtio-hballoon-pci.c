/*
 * HBalloon on PCI
 *
 * This work is licensed under the terms of the GNU GPL, version 2 or later.
 * See the COPYING file in the top-level directory.
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-hballoon.h"
#include "hw/virtio/virtio-pci.h"
#include "hw/qdev-properties.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "qom/object.h"

#define TYPE_VIRTIO_HBALLOON_PCI "virtio-hballoon-pci-base"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIOHBalloonPCI, VIRTIO_HBALLOON_PCI)

struct VirtIOHBalloonPCI {
    VirtIOPCIProxy parent_obj;
    VirtIOHBalloon vdev;
};

/* One vector for the config and one for each queue. */
#define NR_VECTORS 4

static const Property virtio_hballoon_pci_properties[] = {
    DEFINE_PROP_BIT("ioeventfd", VirtIOPCIProxy, flags,
                    VIRTIO_PCI_FLAG_USE_IOEVENTFD_BIT, true),
    DEFINE_PROP_UINT32("vectors", VirtIOPCIProxy, nvectors, NR_VECTORS),
};

static void virtio_hballoon_pci_realize(VirtIOPCIProxy *vpci_dev, Error **errp)
{
    VirtIOHBalloonPCI *dev = VIRTIO_HBALLOON_PCI(vpci_dev);

    virtio_pci_force_virtio_1(vpci_dev);
    qdev_realize(DEVICE(&dev->vdev), BUS(&vpci_dev->bus), errp);
}

static void virtio_hballoon_pci_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioPCIClass *k = VIRTIO_PCI_CLASS(klass);
    PCIDeviceClass *pcidev_k = PCI_DEVICE_CLASS(klass);

    device_class_set_props(dc, virtio_hballoon_pci_properties);
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    k->realize = virtio_hballoon_pci_realize;
    pcidev_k->class_id = PCI_CLASS_OTHERS;
}

static void virtio_hballoon_pci_instance_init(Object *obj)
{
    VirtIOHBalloonPCI *dev = VIRTIO_HBALLOON_PCI(obj);

    virtio_instance_init_common(obj, &dev->vdev, sizeof(dev->vdev),
                                TYPE_VIRTIO_HBALLOON);
}

static const VirtioPCIDeviceTypeInfo virtio_hballoon_pci_info = {
    .base_name = TYPE_VIRTIO_HBALLOON_PCI,
    .generic_name = "virtio-hballoon-pci",
    .instance_size = sizeof(VirtIOHBalloonPCI),
    .instance_init = virtio_hballoon_pci_instance_init,
    .class_init = virtio_hballoon_pci_class_init,
};

static void virtio_hballoon_pci_register_types(void)
{
    virtio_pci_types_register(&virtio_hballoon_pci_info);
}

type_init(virtio_hballoon_pci_register_types)
