/** A WebGL2 renderer of points. Each point is a disc of one color, or of two halves. */

const VERTEX = `#version 300 es
in vec2 position; in float size; in vec4 first; in vec4 second;
uniform vec2 center; uniform vec2 scale; uniform float factor;
out vec4 left; out vec4 right; out float diameter;
void main() {
  left = first; right = second;
  diameter = size * factor;
  gl_PointSize = diameter < 3.5 ? max(1.0, diameter) : diameter + 1.0;
  gl_Position = first.a == 0.0 ? vec4(2, 2, 0, 1) : vec4((position - center) * scale, 0, 1);
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 left; in vec4 right; in float diameter;
out vec4 color;
void main() {
  if (diameter < 3.5) {  // A small point is a square: software rendering needs half the time for it.
    color = gl_PointCoord.x < 0.5 ? vec4(left.rgb * left.a, left.a) : vec4(right.rgb * right.a, right.a);
    return;
  }
  vec2 place = gl_PointCoord - 0.5;
  float radius = length(place) * (diameter + 1.0);
  float cover = clamp(diameter * 0.5 + 0.5 - radius, 0.0, 1.0);
  if (cover == 0.0) discard;
  vec4 chosen = place.x < 0.0 ? left : right;
  color = vec4(chosen.rgb * chosen.a, chosen.a) * cover;
}`;

export class Renderer {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, premultipliedAlpha: true });
    if (!gl) throw new Error("This browser does not offer WebGL2, which the map needs.");
    this.gl = gl;
    const details = gl.getExtension("WEBGL_debug_renderer_info");
    const name = details ? gl.getParameter(details.UNMASKED_RENDERER_WEBGL) : "";
    this.isSoftware = /swiftshader|llvmpipe|software|basic render/i.test(name);
    this.count = 0;
    this.buffers = {};
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => this.restore());
    this.prepare();
  }

  prepare() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.program = program;
    this.uniforms = Object.fromEntries(
      ["center", "scale", "factor"].map((name) => [name, gl.getUniformLocation(program, name)]),
    );
  }

  /** Upload a value per point. @param {string} name @param {Float32Array|Uint8Array} values @param {number} width */
  upload(name, values, width) {
    const { gl } = this;
    const place = gl.getAttribLocation(this.program, name);
    const buffer = this.buffers[name]?.buffer ?? gl.createBuffer();
    this.buffers[name] = { buffer, values, width };
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(place);
    const isByte = values instanceof Uint8Array;
    gl.vertexAttribPointer(place, width, isByte ? gl.UNSIGNED_BYTE : gl.FLOAT, isByte, 0, 0);
    this.count = values.length / width;
  }

  restore() {
    const kept = Object.entries(this.buffers);
    this.buffers = {};
    this.prepare();
    for (const [name, { values, width }] of kept) this.upload(name, values, width);
    this.canvas.dispatchEvent(new Event("redraw"));
  }

  /** Draw the first points. @param {import("./camera.js").Camera} camera @param {number} factor Size of a point of size 1.
   * @param {number} most Number of points that are drawn. */
  draw(camera, factor, most) {
    const { gl, canvas } = this;
    const ratio = camera.ratio;
    const [width, height] = [Math.round(camera.width * ratio), Math.round(camera.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(this.uniforms.center, camera.x, camera.y);
    gl.uniform2f(this.uniforms.scale, (2 * camera.scale) / camera.width, (2 * camera.scale) / camera.height);
    gl.uniform1f(this.uniforms.factor, factor * ratio);
    gl.drawArrays(gl.POINTS, 0, Math.min(most, this.count));
  }
}
