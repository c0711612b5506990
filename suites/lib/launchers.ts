/** Starts a process of root to which the modes of files count as to anybody else. */
export const HEEDS_MODES = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search'];
/** Starts a process of root that may do what is for owners alone only to what it owns. */
export const HEEDS_OWNERS = ['setpriv', '--bounding-set', '-fowner'];
