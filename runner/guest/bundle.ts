/** The one door from the runner to the daemon's sources: the daemon is shipped as a file, never imported. */
export { bundleDaemon } from '#rootfs/daemon/bundle.ts';
