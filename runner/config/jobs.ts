/** A machine of a run: 1 GiB of guest memory, QEMU's own, and what the page cache wants for its disks. */
const MACHINE_MIB = 1536;
/** More machines than this wait for each other's boots and files rather than run tests. */
const MOST = 4;

/** Machines at the same time when nobody says how many: one per CPU that memory allows. */
export function defaultJobs(cpus: number, freeMemoryMib: number): number {
  return Math.max(1, Math.min(cpus, Math.floor(freeMemoryMib / MACHINE_MIB), MOST));
}

/** Whether one more machine runs in memory that is free, and not in what other programs would have to give up. */
export function hasRoomForMachine(freeMemoryMib: number): boolean {
  return freeMemoryMib >= MACHINE_MIB;
}
