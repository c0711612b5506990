import { z } from 'zod';

/** What a real gate saw, without what only people read: enough to have it judged again. */
export const recordingSchema = z.strictObject({
  name: z.string(),
  patches: z.array(
    z.strictObject({
      subject: z.string(),
      state: z.enum(['built', 'not-built', 'not-applied', 'not-run']),
      /** The patch with the same kernel, 0 for the base. */
      sameAs: z.int().nullable(),
      warnings: z.array(z.string()),
      transient: z.boolean(),
    }),
  ),
  /** By test and patch (0: the base): what each run showed, in order. A fault is `fail` with its fingerprint. */
  runs: z.record(z.string(), z.record(z.string(), z.array(z.string()))),
});
export type Recording = z.infer<typeof recordingSchema>;
