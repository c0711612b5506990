/** Whether a line of kbuild's short output is a step that makes a file: `  CC      fs/fuse/file.o`. */
export function isBuildStep(line: string): boolean {
  return /^ {2}[A-Z][A-Z0-9_]*(?: \[M\])? +\S/u.test(line);
}

/** Lets a value through at most once per interval: a terminal needs a few figures per second, not hundreds. */
export function throttle(intervalMs: number, now: () => number = () => performance.now()): () => boolean {
  let last = -Infinity;
  return () => {
    if (now() - last < intervalMs) return false;
    last = now();
    return true;
  };
}
