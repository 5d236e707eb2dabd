export interface LayerViolation {
  /** Relative to the source folder, with forward slashes. */
  readonly file: string;
  readonly line: number;
  readonly rule: 'folder' | 'layer' | 'backend' | 'barrel' | 'cycle' | 'ioredis' | 'nest';
  readonly message: string;
  readonly cure: string;
}

/** Reads every TypeScript file below the folder; an empty answer means that all rules hold. */
export function checkLayers(srcDir: string): LayerViolation[];
