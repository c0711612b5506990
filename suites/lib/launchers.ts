/** Starts a process of root to which the modes of files count as to anybody else. */
export const HEEDS_MODES = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search'];
