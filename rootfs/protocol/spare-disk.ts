/** By which the guest knows the disk that tests may overwrite; a name like /dev/vdc could be anybody's. */
export const SPARE_DISK_SERIAL = 'fusegate-spare';
