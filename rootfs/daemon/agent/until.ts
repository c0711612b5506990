/**
 * Asks again and again, sooner at first: for conditions of the kernel that announce themselves by no event.
 * @returns whether the condition came true in time.
 */
export async function until(isTrue: () => boolean | Promise<boolean>, deadlineMs: number): Promise<boolean> {
  const end = performance.now() + deadlineMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(2 * pauseMs, 50)) {
    if (await isTrue()) return true;
    if (performance.now() >= end) return false;
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
